"""How well predicted risks order patients by their survival."""

import importlib.util
from collections.abc import Mapping, Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from mmmedmask.evaluation.classification_metric import log_warning
from mmmedmask.evaluation.classification_scores import percentile_interval
from mmmedmask.evaluation.files import output_folder
from mmmedmask.evaluation.patient_risks import (
    RISKS_FILE,
    average_risks,
    write_risks,
)
from mmmedmask.evaluation.slide_classification import warn_repeated
from mmmedmask.evaluation.survival_scores import (
    bootstrap_concordance,
    concordance,
)
from mmmedmask.registry import METRICS


@METRICS.register_module()
class SurvivalConcordance(BaseMetric):
    """Harrell's C index, by lifelines, with a 95 % interval by patient.

    ``c_index`` is the share of pairs, of whom it is known who died first, in
    which this patient had the higher risk; 0.5 is chance. Its bounds
    ``c_index_low`` and ``c_index_high`` are the 2.5 and 97.5 percentiles of
    bootstrap resamples of patients, the same draws at every evaluation.
    ``events`` is the number of deaths observed. If a patient has several
    samples, their risks are averaged. Without a pair to compare the index is
    left out, with a warning.

    At every evaluation ``survival.csv`` replaces that of the last one, see
    :func:`~mmmedmask.evaluation.patient_risks.write_risks`.

    Samples need ``pred_risk`` (more is worse), ``survival_months``,
    ``censorship`` (1 = the death was not observed), ``case_id`` and
    ``slide_ids``; ``modalities`` is kept, if there is one.

    Args:
        num_bootstrap: Number of resamples; 0 for no interval.
        seed: Seed of the resamples.
        out_dir: Folder of the csv. None takes the folder of the run's log,
            ``WORK_DIR/TIMESTAMP``, and writes nothing if there is no log
            file.
        collect_device: ``'cpu'`` or ``'gpu'``, where the results of several
            processes meet.
        prefix: First part of the names of the scores.

    Raises:
        ValueError: If ``num_bootstrap`` is negative.
        ModuleNotFoundError: If lifelines is not installed.
    """

    default_prefix = 'survival'

    def __init__(self,
                 num_bootstrap: int = 1000,
                 seed: int = 0,
                 out_dir: str | None = None,
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        if num_bootstrap < 0:
            raise ValueError(
                f'num_bootstrap must be at least 0, got {num_bootstrap}')
        if importlib.util.find_spec('lifelines') is None:
            # Better now than after the first epoch.
            raise ModuleNotFoundError('SurvivalConcordance needs lifelines: '
                                      'pip install lifelines')
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.num_bootstrap = num_bootstrap
        self.seed = seed
        self.out_dir = out_dir
        self._size: int | None = None

    def process(self, data_batch, data_samples: Sequence[Mapping]) -> None:
        """Take over the risks of one batch.

        Args:
            data_batch: Not used.
            data_samples: Predictions as described above.

        Raises:
            ValueError: If a sample lacks something, its risk is not one
                finite number or ``censorship`` is neither 0 nor 1.
        """
        needed = ('pred_risk', 'survival_months', 'censorship', 'case_id',
                  'slide_ids')
        for sample in data_samples:
            case = sample.get('case_id')
            name = 'a sample' if case is None else f'case {case}'
            missing = [key for key in needed if sample.get(key) is None]
            if missing:
                raise ValueError(f'the prediction on {name} lacks {missing}, '
                                 f'it has {sorted(sample)}')
            risk, censored = sample['pred_risk'], sample['censorship']
            if risk.numel() != 1 or not risk.isfinite().all():
                raise ValueError(f'the risk of {name} must be one finite '
                                 f'number, got {risk.tolist()}')
            if censored not in (0, 1):
                raise ValueError(f'censorship of {name} must be 0 or 1, got '
                                 f'{censored}')
            self.results.append(
                dict(
                    case_id=str(case),
                    months=float(sample['survival_months']),
                    event=censored == 0,
                    risk=float(risk),
                    modalities=str(sample.get('modalities') or ''),
                    slides=tuple(map(str, sample['slide_ids']))))

    def evaluate(self, size: int) -> dict:
        """Compute the scores from the risks of all processes.

        Args:
            size: Number of samples in the data set.

        Returns:
            The scores.
        """
        self._size = size
        return super().evaluate(size)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the scores and write the csv.

        Args:
            results: What :meth:`process` stored, of all processes.

        Returns:
            The scores and their bounds.

        Raises:
            ValueError: If risks are missing or do not fit each other.
        """
        if not results or self._size not in (None, len(results)):
            raise ValueError(
                f'{len(results)} risks of {self._size or "no"} samples: did '
                'a process get fewer than others?')
        warn_repeated(results)
        table = average_risks(results)
        folder = output_folder(self.out_dir)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            write_risks(folder / RISKS_FILE, table)
        values = {}
        value = concordance(table.risks, table.months, table.events)
        if value is None:
            log_warning('The C index is left out: of no two patients it is '
                        'known who died first '
                        f'({int(table.events.sum())} deaths).')
        else:
            values['c_index'] = value
            if self.num_bootstrap:
                draws = bootstrap_concordance(
                    table.risks, table.months, table.events,
                    self.num_bootstrap, self.seed)
                if not np.isnan(draws).all():
                    low, high = percentile_interval(draws)
                    values['c_index_low'] = low
                    values['c_index_high'] = high
        values['events'] = int(table.events.sum())
        return values
