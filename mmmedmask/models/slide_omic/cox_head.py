"""A head that turns a patient's vector into a risk of death."""

import logging
import math
from collections.abc import Sequence

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmpretrain.structures import DataSample

from mmmedmask.functional.survival import cox_partial_likelihood
from mmmedmask.models.slide_omic.heads import at_least_float, linear_or_mlp
from mmmedmask.registry import MODELS


@MODELS.register_module()
class CoxHead(BaseModule):
    """A log relative hazard, trained by Cox's partial likelihood.

    The loss compares each patient who died with those of its *batch* who
    were alive at that time (Katzman et al. 2018, DeepSurv, on batches): it
    needs batches of several patients, the more the better, on each rank.
    Accumulated gradients do not help, since patients of different steps are
    not compared. A batch without an event has a loss of 0; of a patient
    alone it is always 0, and a warning says so once.

    Samples need ``survival_months`` and ``censorship`` (1 = censored, the
    death was not observed), which ``PackSlideOmicInputs`` takes from the
    cohort csv.

    Args:
        in_dims: Dimensions of the patient's vector, d. The classifier fills
            it in.
        hidden_dims: Dimensions between two linear layers with a GELU and
            dropout; None: one linear layer.
        drop_rate: Dropout in front of the last layer.
        loss_weight: Weight of the loss.
        init_cfg: Initialisation.

    Raises:
        ValueError: If an argument is outside its range.
    """

    class_wise = False

    def __init__(self,
                 in_dims: int,
                 hidden_dims: int | None = None,
                 drop_rate: float = 0.25,
                 loss_weight: float = 1.0,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(
            init_cfg or dict(type='TruncNormal', layer='Linear', std=0.02))
        if in_dims < 1:
            raise ValueError(f'in_dims must be at least 1, got {in_dims}')
        if loss_weight < 0:
            raise ValueError(
                f'loss_weight must be at least 0, got {loss_weight}')
        self.in_dims = in_dims
        self.loss_weight = loss_weight
        self.layers = linear_or_mlp(in_dims, hidden_dims, 1, drop_rate)
        self._warned = False

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        """Log relative hazards.

        Args:
            vector: Patients' vectors, shape (B, d).

        Returns:
            Shape (B, 1); more is worse.
        """
        return self.layers(vector)

    def loss(self, vector: torch.Tensor,
             data_samples: Sequence[DataSample]) -> dict:
        """Cox's partial likelihood in at least float32.

        Args:
            vector: See :meth:`forward`.
            data_samples: Samples with ``survival_months`` and
                ``censorship``.

        Returns:
            ``loss_cox``, a scalar, and ``events``, the number of deaths in
            the batch.

        Raises:
            ValueError: See :func:`survival_of`.
        """
        risks = self(vector)[:, 0]
        times, events = survival_of(data_samples)
        times, events = times.to(risks.device), events.to(risks.device)
        if len(risks) < 2 and not self._warned:
            self._warned = True
            print_log(
                'CoxHead: a batch has one patient alone, from whom it cannot '
                'learn; raise batch_size (accumulative_counts does not '
                'help).', logger='current', level=logging.WARNING)
        with torch.autocast(risks.device.type, enabled=False):
            loss = cox_partial_likelihood(at_least_float(risks), times,
                                          events)
        return dict(loss_cox=self.loss_weight * loss,
                    events=events.sum().to(loss.dtype))

    def predict(
        self,
        vector: torch.Tensor,
        data_samples: Sequence[DataSample | None] | None = None
    ) -> list[DataSample]:
        """Risks of patients.

        Args:
            vector: See :meth:`forward`.
            data_samples: Samples to write to; None makes new ones.

        Returns:
            The samples with ``pred_risk`` (1, ), float32.
        """
        risks = at_least_float(self(vector))
        if data_samples is None:
            data_samples = [None] * len(risks)
        samples = []
        for sample, risk in zip(data_samples, risks, strict=True):
            sample = DataSample() if sample is None else sample
            sample.set_field(risk, 'pred_risk', dtype=torch.Tensor)
            samples.append(sample)
        return samples


def survival_of(
    data_samples: Sequence[DataSample]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Follow-up of a batch of patients.

    Args:
        data_samples: Samples with ``survival_months`` and ``censorship``.

    Returns:
        Times, float64 (B, ), and whether the death was observed, bool
        (B, ).

    Raises:
        ValueError: If a patient lacks one, the time is negative or not
            finite, or ``censorship`` is neither 0 nor 1; names the case.
    """
    times, events = [], []
    for sample in data_samples:
        time, censored = (sample.get(key)
                          for key in ('survival_months', 'censorship'))
        if time is None or censored is None:
            raise ValueError(
                f'case {sample.get("case_id")} has survival_months={time} '
                f'and censorship={censored}; survival needs both in the '
                'cohort csv')
        if not math.isfinite(time) or time < 0 or censored not in (0, 1):
            raise ValueError(
                f'case {sample.get("case_id")} has survival_months={time} '
                f'and censorship={censored}; a time of at least 0 and 0 '
                '(dead) or 1 (censored) needed')
        times.append(float(time))
        events.append(censored == 0)
    return (torch.tensor(times, dtype=torch.float64), torch.tensor(events))
