"""What the metrics of classifiers share: scores, intervals, confusion."""

import importlib.util
from collections.abc import Mapping, Sequence

import numpy as np
from mmengine.logging import MessageHub

from mmmedmask.datasets.image_io import write_image
from mmmedmask.evaluation.base_metric import (
    SampleMetric,
    log_warning,
    require_keys,
)
from mmmedmask.evaluation.classification_scores import (
    GRADED_NAMES,
    bootstrap_scores,
    classification_scores,
    confusion_counts,
    percentile_interval,
)
from mmmedmask.util.atomic_files import write_json
from mmmedmask.util.checks import check_integer
from mmmedmask.visualization.confusion import draw_confusion_matrix


class ClassificationMetric(SampleMetric):
    """Scores of a classifier, their 95 % intervals and its confusions.

    All scores are shares, not percent, each with a ``_low`` and a ``_high``
    bound: the 2.5 and 97.5 percentiles of the scores of bootstrap resamples,
    the same draws at every evaluation. Classes without a sample in the test
    set are left out of the means, and a warning names them. A score that is
    not defined (AUC with one class alone) is NaN, without bounds and with a
    warning. Each evaluation replaces ``confusion_matrix.json`` (with all
    scores, None for NaN) and, at the end of a training and in tests, since
    drawing takes a second, ``confusion_matrix.png``.

    A child stores one dict per sample in ``results``; its ``compute_metrics``
    turns them into labels and scores for :meth:`measure`. For ``kappa`` and
    ``calibration_bins`` see :func:`~mmmedmask.evaluation.\
classification_scores.classification_scores`.

    Args:
        num_bootstrap: Number of resamples; 0 for no intervals.
        noun: What a sample is, for messages; ``group_noun`` a group of them.
    """

    accuracy_name = 'top1'

    def __init__(self, num_bootstrap: int, seed: int, kappa: str | None = None,
                 calibration_bins: int = 0, noun: str = 'image',
                 group_noun: str = 'group', out_dir: str | None = None,
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        self.num_bootstrap = check_integer('num_bootstrap', num_bootstrap, 0)
        if importlib.util.find_spec('sklearn') is None:
            # Better now than after the first epoch.
            raise ModuleNotFoundError(f'{type(self).__name__} needs '
                                      'scikit-learn: pip install scikit-learn')
        super().__init__(out_dir, collect_device, prefix)
        self.seed = check_integer('seed', seed, 0)
        self.kappa = kappa
        self.calibration_bins = calibration_bins
        self.noun = noun
        self.group_noun = group_noun

    def check_results(self, results: Sequence[Mapping]) -> list[str]:
        """Refuse results that do not fit each other or the data set.

        Returns the names of the C classes; ``results`` have ``scores`` (C,).
        """
        self.check_number(results)
        lengths = {len(result['scores']) for result in results}
        if len(lengths) > 1:
            raise ValueError('predictions differ in their number of classes: '
                             f'{sorted(lengths)}')
        number = lengths.pop()
        classes = (self.dataset_meta or {}).get('classes') or range(number)
        if len(classes) != number:
            raise ValueError(f'the model predicts {number} classes, the data '
                             f'set has {len(classes)}: {tuple(classes)}')
        return [str(name) for name in classes]

    def undefined_scores(self, infos: Sequence[Mapping]) -> dict[str, str]:
        """Say that one class alone has no AUC."""
        labels = {str(np.asarray(info['gt_label']).tolist()) for info in infos
                  if info.get('gt_label') is not None}
        return {} if len(labels) != 1 else {
            'auc': f'all {self.noun}s are of class {labels.pop()}'}

    def measure(self, labels: np.ndarray, scores: np.ndarray,
                classes: Sequence[str],
                groups: Sequence[str] | None = None) -> dict[str, float]:
        """Compute scores, each followed by its bounds; write the confusions.

        Args:
            labels: True classes, integers (N,).
            scores: Probability of each class, float64 (N, C).
            groups: The group of each sample, N; groups are drawn instead of
                samples.

        Raises:
            ValueError: If the scores are not finite or a label is not a class.
        """
        values = classification_scores(labels, scores, self.kappa,
                                       self.calibration_bins)
        values = {name: values.get(name, np.nan) for name in (
            *GRADED_NAMES[:len(GRADED_NAMES) - (not self.kappa)],
            *(['ece'] if self.calibration_bins else []))}
        absent = [classes[index] for index in np.setdiff1d(
            np.arange(len(classes)), labels)]
        self._warn(values, absent)
        if self.num_bootstrap:
            values = self._add_bounds(values, labels, scores, groups)
        values = {name.replace('top1', self.accuracy_name): value
                  for name, value in values.items()}
        self._write(values, labels, scores, classes, groups, absent)
        return values

    def _warn(self, values: Mapping[str, float],
              absent: Sequence[str]) -> None:
        """Say what the scores leave out."""
        if absent:
            log_warning(f'No {self.noun} of the classes {absent} is in the '
                        'test set: they are left out of balanced accuracy, '
                        'AUC and F1.')
        if np.isnan(values['auc']):
            log_warning(f'AUC is NaN: all {self.noun}s are of one class.')
        if np.isnan(values.get('kappa', 0)):
            log_warning(f'Kappa is NaN: all {self.noun}s are of one class '
                        'and predicted so.')

    def _add_bounds(self, values: Mapping[str, float], labels: np.ndarray,
                    scores: np.ndarray,
                    groups: Sequence[str] | None) -> dict[str, float]:
        """Follow each score by the bounds of its interval."""
        resampled = bootstrap_scores(labels, scores, self.num_bootstrap,
                                     self.seed, groups, self.kappa,
                                     self.calibration_bins)
        bounded = {}
        for name, value in values.items():
            bounded[name] = value
            if np.isnan(value):
                continue
            draws = resampled[name]
            if undefined := int(np.isnan(draws).sum()):
                log_warning(f'{name} is not defined in {undefined} of '
                            f'{len(draws)} resamples: its interval is made '
                            'of the others.')
            if undefined < len(draws):
                bounded[f'{name}_low'], bounded[f'{name}_high'] = \
                    percentile_interval(draws)
        return bounded

    def _write(self, values: Mapping[str, float], labels: np.ndarray,
               scores: np.ndarray, classes: Sequence[str],
               groups: Sequence[str] | None, absent: Sequence[str]) -> None:
        """Write the confusion matrix with all scores; draw the last."""
        folder = self.output_folder()
        if folder is None:
            return
        counts = confusion_counts(labels, scores)
        unit = self.noun if groups is None else self.group_noun
        write_json(folder / 'confusion_matrix.json', {
            'classes': list(classes), 'rows': 'true class',
            'columns': 'predicted class', 'counts': counts.tolist(),
            'absent_classes': list(absent),
            f'num_{self.noun}s': len(labels),
            f'num_{self.group_noun}s': groups and len(set(groups)),
            'bootstrap': dict(
                draws=self.num_bootstrap, unit=unit, seed=self.seed),
            # NaN is nothing that json can hold.
            'scores': {name: None if np.isnan(value) else value
                       for name, value in values.items()}})
        info = MessageHub.get_current_instance().runtime_info
        if info.get('iter', 0) + 1 >= info.get('max_iters', 0):
            # The run trains no further.
            picture = draw_confusion_matrix(
                counts, classes,
                f'{len(labels)} {self.noun}s, {self.accuracy_name} '
                f'{100 * values[self.accuracy_name]:.1f} %')
            write_image(folder / 'confusion_matrix.png', picture)


def check_prediction(sample: Mapping, keys: Sequence[str], name: str) -> None:
    """Refuse a prediction on ``name`` that lacks keys, or is not finite.

    ``pred_score`` (C,) and one ``gt_label`` are among them.
    """
    require_keys(sample, keys, name)
    if sample['gt_label'].numel() != 1:
        raise ValueError(f'{name} has the labels '
                         f'{sample["gt_label"].tolist()}, one needed')
    scores = sample['pred_score']
    if not scores.isfinite().all():
        raise ValueError(
            f'the scores of {name} are not finite: {scores.tolist()}')
