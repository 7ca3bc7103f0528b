"""Heads that turn a patient's vector into classes or a risk of death."""

import logging
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmmedmask.functional.survival import cox_partial_likelihood
from mmmedmask.models.layers.data_samples import class_labels
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import (
    check_integer,
    check_numbers,
    check_range,
    check_rate,
    check_shape,
)


class ClassificationHead(BaseModule):
    """Base of heads: cross-entropy, and classes with their probabilities.

    Subclasses write :meth:`forward`, and say with ``class_wise`` whether
    they take a vector for each class. The classifier fills ``in_dims`` in.

    Args:
        in_dims: Dimensions of the patient's vector, d.
        num_classes: Classes, K.
        class_weights: Weight of the loss of each class's patients; None
            weighs all alike. The weighted loss is averaged over the batch's
            patients, not over their weights, so that weights also count in
            batches of one.
        label_smoothing: Share of the target that goes to all classes.
    """

    class_wise = False

    def __init__(self, in_dims: int, num_classes: int,
                 class_weights: Sequence[float] | None = None,
                 label_smoothing: float = 0.0, loss_weight: float = 1.0,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(
            init_cfg or dict(type='TruncNormal', layer='Linear', std=0.02))
        self.in_dims = check_integer('in_dims', in_dims)
        self.num_classes = check_integer('num_classes', num_classes, 2)
        self.label_smoothing = check_range('label_smoothing', label_smoothing,
                                           0, 1, open_high=True)
        self.loss_weight = check_range('loss_weight', loss_weight, 0)
        if class_weights is not None:
            check_numbers('class_weights', class_weights, 0,
                          count=num_classes)
        self.register_buffer(
            'class_weights', None if class_weights is None else torch.tensor(
                [float(weight) for weight in class_weights]), persistent=False)

    def forward(self, vector: Tensor) -> Tensor:
        """Logits (B, K) of vectors (B, d), or (B, K, d) if ``class_wise``."""
        raise NotImplementedError

    def loss(self, vector: Tensor, data_samples: Sequence[DataSample]) -> dict:
        """Cross-entropy of ``gt_label`` in at least float32: ``loss_cls``."""
        logits = self(vector)
        labels = class_labels(data_samples, self.num_classes).to(logits.device)
        losses = self.cross_entropy(logits, labels)
        return dict(loss_cls=self.loss_weight * losses.mean())

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Weighted and smoothed, of each patient: (B, K) and (B, ) to (B, ).
        """
        with torch.autocast(logits.device.type, enabled=False):
            losses = F.cross_entropy(
                at_least_float(logits), labels, reduction='none',
                label_smoothing=self.label_smoothing)
            if self.class_weights is not None:
                losses = losses * self.class_weights[labels]
        return losses

    def predict(self, vector: Tensor,
                data_samples: Sequence[DataSample | None] | None = None,
                stream: Tensor | None = None) -> list[DataSample]:
        """Classes and their probabilities.

        Args:
            vector: See :meth:`forward`.
            data_samples: Samples to write to; None makes new ones.
            stream: Logits of a second stream, shape (B, K), whose mean with
                this head's is what counts.

        Returns:
            The samples with ``pred_score`` (K, ), float32, and ``pred_label``.
        """
        logits = self(vector)
        if stream is not None:
            logits = (logits + stream) / 2
        scores = at_least_float(logits).softmax(dim=1)
        samples = given_or_new(data_samples, len(scores))
        for sample, score in zip(samples, scores, strict=True):
            sample.set_pred_score(score).set_pred_label(
                score.argmax(dim=0, keepdim=True))
        return samples


def given_or_new(data_samples: Sequence[DataSample | None] | None,
                 count: int) -> list[DataSample]:
    """Samples to write to: new ones where none are given."""
    if data_samples is None:
        data_samples = [None] * count
    return [DataSample() if sample is None else sample
            for sample in data_samples]


def at_least_float(tensor: Tensor) -> Tensor:
    """The tensor in float32, or float64 if that is what it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def linear_or_mlp(in_dims: int, hidden_dims: int | None, out_dims: int,
                  drop_rate: float) -> nn.Sequential:
    """A linear layer, or GiMP's "simple MLP"; see :class:`SlideOmicHead`."""
    hidden = [] if hidden_dims is None else [
        nn.Linear(in_dims, check_integer('hidden_dims', hidden_dims)),
        nn.GELU()]
    return nn.Sequential(*hidden,
                         nn.Dropout(check_rate('drop_rate', drop_rate)),
                         nn.Linear(hidden_dims or in_dims, out_dims))


@MODELS.register_module()
class SlideOmicHead(ClassificationHead):
    """A linear layer, or GiMP's "simple MLP", over a patient's vector.

    Args:
        hidden_dims: Dimensions between two linear layers with a GELU and
            dropout; None: one linear layer.
        drop_rate: Dropout in front of the last layer.
        options: Further arguments of :class:`ClassificationHead`.
    """

    def __init__(self, in_dims: int, num_classes: int,
                 hidden_dims: int | None = None, drop_rate: float = 0.25,
                 **options) -> None:
        super().__init__(in_dims, num_classes, **options)
        self.layers = linear_or_mlp(in_dims, hidden_dims, num_classes,
                                    drop_rate)

    def forward(self, vector: Tensor) -> Tensor:
        """Scores of the classes; see the base class."""
        return self.layers(vector)


@MODELS.register_module()
class ClasswiseSlideOmicHead(ClassificationHead):
    """A score for each class from this class's own vector.

    For aggregators that look at a bag once per class (CLAM-MB, DSMIL).

    Args:
        drop_rate: Dropout in front of the layer.
        options: Further arguments of :class:`ClassificationHead`.
    """

    class_wise = True

    def __init__(self, in_dims: int, num_classes: int, drop_rate: float = 0.0,
                 **options) -> None:
        super().__init__(in_dims, num_classes, **options)
        self.drop = nn.Dropout(check_rate('drop_rate', drop_rate))
        self.fc = nn.Linear(in_dims, num_classes)

    def forward(self, vector: Tensor) -> Tensor:
        """Scores of the classes; see the base class."""
        check_shape('vector', vector, ('B', self.num_classes, 'd'))
        return (self.drop(vector) * self.fc.weight).sum(dim=2) + self.fc.bias


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
        hidden_dims: See :class:`SlideOmicHead`, as for ``drop_rate``.
        drop_rate: Dropout in front of the last layer.
    """

    class_wise = False

    def __init__(self, in_dims: int, hidden_dims: int | None = None,
                 drop_rate: float = 0.25, loss_weight: float = 1.0,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(
            init_cfg or dict(type='TruncNormal', layer='Linear', std=0.02))
        self.in_dims = check_integer('in_dims', in_dims)
        self.loss_weight = check_range('loss_weight', loss_weight, 0)
        self.layers = linear_or_mlp(in_dims, hidden_dims, 1, drop_rate)
        self._warned = False

    def forward(self, vector: Tensor) -> Tensor:
        """Log relative hazards (B, 1) of vectors (B, d); more is worse."""
        return self.layers(vector)

    def loss(self, vector: Tensor, data_samples: Sequence[DataSample]) -> dict:
        """Cox's partial likelihood in at least float32, see `survival_of`.

        Gives ``loss_cox``, a scalar, and ``events``, the number of deaths in
        the batch.
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
            loss = cox_partial_likelihood(at_least_float(risks), times, events)
        return dict(loss_cox=self.loss_weight * loss,
                    events=events.sum().to(loss.dtype))

    def predict(self, vector: Tensor,
                data_samples: Sequence[DataSample | None] | None = None
    ) -> list[DataSample]:
        """Risks of patients: ``pred_risk`` (1, ), float32."""
        risks = at_least_float(self(vector))
        samples = given_or_new(data_samples, len(risks))
        for sample, risk in zip(samples, risks, strict=True):
            sample.set_field(risk, 'pred_risk', dtype=torch.Tensor)
        return samples


def survival_of(data_samples: Sequence[DataSample]) -> tuple[Tensor, Tensor]:
    """Times, float64 (B, ), and whether the death was observed, bool (B, ).

    A ValueError names the case if a patient lacks one, the time is negative or
    not finite, or ``censorship`` is neither 0 nor 1.
    """
    times, events = [], []
    for sample in data_samples:
        time, censored = (sample.get(key)
                          for key in ('survival_months', 'censorship'))
        if time is None or censored is None:
            needs = 'survival needs both in the cohort csv'
        elif not math.isfinite(time) or time < 0 or censored not in (0, 1):
            needs = ('a time of at least 0 and 0 (dead) or 1 (censored) '
                     'needed')
        else:
            times.append(float(time))
            events.append(censored == 0)
            continue
        raise ValueError(
            f'case {sample.get("case_id")} has survival_months={time} and '
            f'censorship={censored}; {needs}')
    return (torch.tensor(times, dtype=torch.float64), torch.tensor(events))
