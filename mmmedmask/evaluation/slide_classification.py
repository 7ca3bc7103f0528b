"""All scores of a classifier of patients, with intervals by patient."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmmedmask.evaluation.classification_metric import (
    ClassificationMetric,
    check_prediction,
)
from mmmedmask.evaluation.classification_scores import (
    CALIBRATION_BINS,
    check_probabilities,
    classification_scores,
)
from mmmedmask.evaluation.patient_tables import (
    PATIENTS_FILE,
    average_by_patient,
    hidden_file,
    hidden_results,
    patient_result,
    warn_repeated,
    write_patients,
)
from mmmedmask.registry import METRICS
from mmmedmask.util.checks import check_choice

LEVELS = ('patient', 'sample')
# Of the scores with a modality hidden; the others say little more.
_HIDDEN_SCORES = ('top1', 'balanced_accuracy', 'auc')


@METRICS.register_module()
class SlideClassification(ClassificationMetric):
    """Accuracy, AUC, F1, kappa, calibration and 95 % intervals of patients.

    Cohorts of slides are small, hence several scores with bounds, see
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

    Of a model of two modalities there is also what each is worth:
    ``slides_hidden/auc`` and ``genes_hidden/auc``, with accuracy, balanced
    accuracy, bounds and a csv, of the patients who have both, answered as if
    they lacked the one or the other. A model that ignores its slides has
    ``genes_hidden/auc`` at chance.

    Samples need ``pred_score`` (probabilities), one ``gt_label``,
    ``case_id`` and ``slide_ids``; ``modalities`` is kept, if there is one,
    as are ``slides_hidden`` and ``genes_hidden``, dicts with a
    ``pred_score``.

    Args:
        level: ``'patient'`` or ``'sample'``.
        num_bootstrap: Number of resamples; 0 for no intervals.
        out_dir: See :class:`~mmmedmask.evaluation.base_metric.SampleMetric`.
    """

    default_prefix = 'slide'
    accuracy_name = 'accuracy'

    def __init__(self, level: str = 'patient', num_bootstrap: int = 1000,
                 seed: int = 0, out_dir: str | None = None,
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        self.level = check_choice('level', level, LEVELS)
        super().__init__(
            num_bootstrap, seed, kappa='nominal',
            calibration_bins=CALIBRATION_BINS, noun=level,
            group_noun='patient' if level == 'sample' else 'group',
            out_dir=out_dir, collect_device=collect_device, prefix=prefix)

    def process(self, data_batch, data_samples: Sequence[Mapping]) -> None:
        for sample in data_samples:
            result = patient_result(sample, ('pred_score', 'gt_label'),
                                    _probabilities, check_prediction)
            self.results.append(dict(label=int(sample['gt_label']), **result))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
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
        self.write(PATIENTS_FILE, write_patients, patients)
        for key, hidden in hidden_results(results).items():
            values.update(self._score_hidden(key, hidden, classes))
        return values

    def _score_hidden(self, key: str, results: list[dict],
                      classes: list[str]) -> dict[str, float]:
        """Scores without a modality, and the file of the patients."""
        patients = average_by_patient(results, classes)
        self.write(hidden_file(PATIENTS_FILE, key), write_patients, patients)
        values = classification_scores(patients.labels, patients.scores)
        values = {name: values.get(name, np.nan) for name in _HIDDEN_SCORES}
        self._warn(values, [])
        if self.num_bootstrap:
            values = self._add_bounds(values, patients.labels,
                                      patients.scores, None)
        return {f'{key}/{name.replace("top1", self.accuracy_name)}': value
                for name, value in values.items()}


def _probabilities(sample: Mapping, name: str) -> dict:
    scores = sample['pred_score'].detach().float().cpu().numpy()
    try:
        check_probabilities(scores[None])
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from None
    return dict(scores=scores)
