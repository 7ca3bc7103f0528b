"""All scores of a classifier of patients, with intervals by patient."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmmedmask.evaluation.base_metric import log_warning
from mmmedmask.evaluation.classification_metric import (
    ClassificationMetric,
    check_sample,
)
from mmmedmask.evaluation.classification_scores import (
    CALIBRATION_BINS,
    check_probabilities,
)
from mmmedmask.evaluation.patient_tables import (
    PATIENTS_FILE,
    average_by_patient,
    write_patients,
)
from mmmedmask.registry import METRICS
from mmmedmask.util.checks import check_choice

LEVELS = ('patient', 'sample')


@METRICS.register_module()
class SlideClassification(ClassificationMetric):
    """Accuracy, AUC, F1, kappa, calibration and 95 % intervals of patients.

    Cohorts of slides are small: one patient of 190 is half a point of
    accuracy. Hence several scores with bounds, see
    :class:`ClassificationMetric`: ``accuracy``, ``balanced_accuracy`` (mean
    recall), ``auc`` (one class against the rest, ties counted half, mean
    over classes), ``f1`` (mean over classes), ``kappa`` (Cohen's, without
    weights) and ``ece`` (expected calibration error, Guo et al. 2017).

    If a patient has several samples (``case_agg='separate'`` of
    :class:`~mmmedmask.datasets.SlideOmicDataset`), their probabilities are
    averaged. With ``level='sample'`` the samples are scored as they are.
    Resamples draw patients, with all samples of each, at either level. Each
    evaluation writes ``patients.csv``, too, always one line per patient: see
    :func:`~mmmedmask.evaluation.patient_tables.write_patients`.

    Samples need ``pred_score`` (probabilities), one ``gt_label``,
    ``case_id`` and ``slide_ids``; ``modalities`` is kept, if there is one.

    Args:
        level: ``'patient'`` or ``'sample'``.
        num_bootstrap: Number of resamples; 0 for no intervals.
        seed: Seed of the resamples.
        out_dir: See :class:`~mmmedmask.evaluation.base_metric.SampleMetric`.
        collect_device: See there.
        prefix: See there.

    Raises:
        ValueError: If ``level`` is not one of these, or ``num_bootstrap`` is
            negative.
        ModuleNotFoundError: If scikit-learn is not installed.
    """

    default_prefix = 'slide'
    accuracy_name = 'accuracy'

    def __init__(self,
                 level: str = 'patient',
                 num_bootstrap: int = 1000,
                 seed: int = 0,
                 out_dir: str | None = None,
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        self.level = check_choice('level', level, LEVELS)
        super().__init__(
            num_bootstrap,
            seed,
            kappa='nominal',
            calibration_bins=CALIBRATION_BINS,
            noun=level,
            group_noun='patient' if level == 'sample' else 'group',
            out_dir=out_dir,
            collect_device=collect_device,
            prefix=prefix)

    def process(self, data_batch, data_samples: Sequence[Mapping]) -> None:
        """Take over the predictions of one batch, which are checked."""
        for sample in data_samples:
            case = sample.get('case_id')
            name = 'a sample' if case is None else f'case {case}'
            check_sample(
                sample, ('pred_score', 'gt_label', 'case_id', 'slide_ids'),
                name)
            scores = sample['pred_score'].detach().float().cpu().numpy()
            try:
                check_probabilities(scores[None])
            except ValueError as error:
                raise ValueError(f'{name}: {error}') from None
            self.results.append(
                dict(
                    case_id=str(case),
                    label=int(sample['gt_label']),
                    scores=scores,
                    modalities=str(sample.get('modalities') or ''),
                    slides=tuple(map(str, sample['slide_ids']))))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the scores and their bounds, and write the files."""
        classes = self.check_results(results)
        warn_repeated(results)
        patients = average_by_patient(results, classes)
        if self.level == 'patient':
            values = self.measure(patients.labels, patients.scores, classes)
        else:
            values = self.measure(
                np.array([result['label'] for result in results]),
                np.stack([result['scores'] for result in results
                          ]).astype(np.float64), classes,
                [result['case_id'] for result in results])
        folder = self.output_folder()
        if folder is not None:
            write_patients(folder / PATIENTS_FILE, patients)
        return values


def warn_repeated(results: Sequence[Mapping]) -> None:
    """Warn of slides that a patient has several predictions on."""
    names = [(result['case_id'], result['slides']) for result in results]
    repeated = len(names) - len(set(names))
    if repeated:
        log_warning(f'{repeated} predictions are on slides of a patient that '
                    'have another one already; all count.')
