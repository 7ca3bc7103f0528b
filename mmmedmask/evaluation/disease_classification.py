"""All scores of a disease classifier from one pass, with intervals."""

import importlib.util
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from PIL import Image

from mmmedmask.evaluation.classification_scores import (
    absent_classes,
    bootstrap_scores,
    check_predictions,
    classification_scores,
    confusion_counts,
    percentile_interval,
)
from mmmedmask.evaluation.predictions import (
    Predictions,
    relative_path,
    write_predictions,
)
from mmmedmask.registry import METRICS
from mmmedmask.visualization.confusion import draw_confusion_matrix


@METRICS.register_module()
class DiseaseClassification(BaseMetric):
    """Accuracy, AUC, F1, kappa, the confusion matrix and 95 % intervals.

    Medical test sets are small and unbalanced: the accuracy of whoever
    always names the most frequent class may be high, and one image more may
    be a large step. Hence several scores, each with a ``_low`` and a
    ``_high`` bound: ``top1``, ``balanced_accuracy`` (mean recall), ``auc``
    (one class against the rest, ties counted half, mean over classes),
    ``f1`` (mean over classes), and for graded diseases ``kappa`` (Cohen's,
    quadratic weights). All are shares, not percent.

    Classes without a sample in the test set are left out of the means, and a
    warning names them. A score that is not defined (AUC with one class
    alone) is left out, with a warning.

    The bounds are the 2.5 and 97.5 percentiles of the scores of bootstrap
    resamples. If the samples carry a group (a patient, a lesion), groups are
    drawn, else images. Draws are the same at every evaluation.

    At every evaluation these files replace those of the last one:
    ``predictions.csv`` (see
    :func:`~mmmedmask.evaluation.predictions.write_predictions`),
    ``confusion_matrix.json`` (with all scores) and ``confusion_matrix.png``.

    Samples need ``pred_score``, one ``gt_label`` and ``img_path``, as the
    predictions of mmpretrain's classifiers have them. For a group, put
    ``group`` into the ``meta_keys`` of the pipeline's last transform.

    Args:
        graded: Whether the classes are grades of a disease in their order,
            so that kappa makes sense.
        num_bootstrap: Number of resamples; 0 for no intervals.
        seed: Seed of the resamples.
        data_root: Paths below this folder are written relative to it.
        out_dir: Folder of the files. None takes the folder of the run's log,
            ``WORK_DIR/TIMESTAMP``, and writes nothing if there is no log
            file.
        collect_device: ``'cpu'`` or ``'gpu'``, where the results of several
            processes meet.
        prefix: First part of the names of the scores.

    Raises:
        ValueError: If ``num_bootstrap`` is negative.
        ModuleNotFoundError: If scikit-learn is not installed.
    """

    default_prefix = 'disease'

    def __init__(self,
                 graded: bool = False,
                 num_bootstrap: int = 1000,
                 seed: int = 0,
                 data_root: str | None = None,
                 out_dir: str | None = None,
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        if num_bootstrap < 0:
            raise ValueError(
                f'num_bootstrap must be at least 0, got {num_bootstrap}')
        if importlib.util.find_spec('sklearn') is None:
            # Better now than after the first epoch.
            raise ModuleNotFoundError(
                'DiseaseClassification needs scikit-learn: '
                'pip install scikit-learn')
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.graded = graded
        self.num_bootstrap = num_bootstrap
        self.seed = seed
        self.data_root = data_root
        self.out_dir = out_dir
        self._size: int | None = None

    def process(self, data_batch, data_samples: Sequence[Mapping]) -> None:
        """Take over the predictions of one batch.

        Args:
            data_batch: Not used.
            data_samples: Predictions with ``pred_score`` (C,), ``gt_label``
                (1,), ``img_path`` and maybe ``group``.

        Raises:
            ValueError: If a sample lacks something, has several labels, or a
                score is not finite.
        """
        for sample in data_samples:
            path = sample.get('img_path')
            missing = [
                key for key in ('pred_score', 'gt_label', 'img_path')
                if sample.get(key) is None
            ]
            if missing:
                raise ValueError(f'the prediction on {path or "an image"} '
                                 f'lacks {missing}, it has {sorted(sample)}')
            if sample['gt_label'].numel() != 1:
                raise ValueError(f'{path} has the labels '
                                 f'{sample["gt_label"].tolist()}, one needed')
            scores = sample['pred_score'].detach().float().cpu().numpy()
            if not np.isfinite(scores).all():
                raise ValueError(
                    f'the scores of {path} are not finite: {scores}')
            group = sample.get('group')
            self.results.append(
                dict(
                    path=str(path),
                    label=int(sample['gt_label']),
                    scores=scores,
                    group='' if group is None else str(group)))

    def evaluate(self, size: int) -> dict:
        """Compute the scores from the predictions of all processes.

        Args:
            size: Number of images in the data set.

        Returns:
            The scores.
        """
        self._size = size
        return super().evaluate(size)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the scores and write the files.

        Args:
            results: What :meth:`process` stored, of all processes.

        Returns:
            The scores and their bounds.

        Raises:
            ValueError: If predictions are missing or do not fit each other.
        """
        if self._size is not None and len(results) != self._size:
            raise ValueError(f'{len(results)} predictions on {self._size} '
                             'images: did a process get fewer than others?')
        predictions = self._gather(results)
        labels, scores = predictions.labels, predictions.scores
        values = classification_scores(labels, scores, self.graded)
        absent = absent_classes(labels, scores.shape[1])
        self._warn(predictions, values, absent)
        if self.num_bootstrap:
            values = self._add_bounds(values, predictions)
        folder = self._folder()
        if folder is not None:
            self._write(folder, predictions, values, absent)
        return values

    def _gather(self, results: list[dict]) -> Predictions:
        """Put all predictions together."""
        if not results:
            raise ValueError('there are no predictions to evaluate')
        lengths = {len(result['scores']) for result in results}
        if len(lengths) > 1:
            raise ValueError('predictions differ in their number of classes: '
                             f'{sorted(lengths)}')
        number = lengths.pop()
        classes = (self.dataset_meta or {}).get('classes') or range(number)
        if len(classes) != number:
            raise ValueError(f'the model predicts {number} classes, the data '
                             f'set has {len(classes)}: {tuple(classes)}')
        groups = [result['group'] for result in results]
        if any(groups) and not all(groups):
            raise ValueError(
                f'{results[groups.index("")]["path"]} has no group, but '
                'others have one')
        predictions = Predictions(
            paths=[
                relative_path(result['path'], self.data_root)
                for result in results
            ],
            labels=np.array([result['label'] for result in results]),
            # Exact, and so are ties.
            scores=np.stack([result['scores']
                             for result in results]).astype(np.float64),
            classes=[str(name) for name in classes],
            groups=groups if any(groups) else None)
        check_predictions(predictions.labels, predictions.scores)
        return predictions

    def _warn(self, predictions: Predictions, values: Mapping[str, float],
              absent: Sequence[int]) -> None:
        """Say what the scores leave out."""
        if absent:
            names = [predictions.classes[index] for index in absent]
            _log_warning(f'No image of the classes {names} is in the test '
                         'set: they are left out of balanced accuracy, AUC '
                         'and F1.')
        if 'auc' not in values:
            _log_warning('AUC is left out: all images are of one class.')
        if self.graded and 'kappa' not in values:
            _log_warning('Kappa is left out: all images are of one class and '
                         'predicted so.')
        repeated = len(predictions.paths) - len(set(predictions.paths))
        if repeated:
            _log_warning(f'{repeated} predictions are on images that have '
                         'another one already; all count.')

    def _add_bounds(self, values: Mapping[str, float],
                    predictions: Predictions) -> dict[str, float]:
        """Follow each score by the bounds of its interval."""
        resampled = bootstrap_scores(predictions.labels, predictions.scores,
                                     self.num_bootstrap, self.seed,
                                     predictions.groups, self.graded)
        bounded = {}
        for name, value in values.items():
            bounded[name] = value
            draws = resampled[name]
            undefined = int(np.isnan(draws).sum())
            if undefined:
                _log_warning(f'{name} is not defined in {undefined} of '
                             f'{len(draws)} resamples: its interval is made '
                             'of the others.')
            if undefined < len(draws):
                low, high = percentile_interval(draws)
                bounded[f'{name}_low'], bounded[f'{name}_high'] = low, high
        return bounded

    def _folder(self) -> Path | None:
        """The folder for the files, if there is one."""
        if self.out_dir is not None:
            return Path(self.out_dir)
        for handler in MMLogger.get_current_instance().handlers:
            if isinstance(handler, logging.FileHandler):
                return Path(handler.baseFilename).parent
        return None

    def _write(self, folder: Path, predictions: Predictions,
               values: Mapping[str, float], absent: Sequence[int]) -> None:
        """Write predictions and confusion matrix."""
        folder.mkdir(parents=True, exist_ok=True)
        write_predictions(folder / 'predictions.csv', predictions)
        counts = confusion_counts(predictions.labels, predictions.scores)
        groups = predictions.groups
        content = dict(
            classes=predictions.classes,
            rows='true class',
            columns='predicted class',
            counts=counts.tolist(),
            absent_classes=[predictions.classes[index] for index in absent],
            num_images=len(predictions.paths),
            num_groups=None if groups is None else len(set(groups)),
            bootstrap=dict(
                draws=self.num_bootstrap,
                unit='image' if groups is None else 'group',
                seed=self.seed),
            scores=dict(values))
        (folder / 'confusion_matrix.json').write_text(
            json.dumps(content, indent=1), encoding='utf-8')
        picture = draw_confusion_matrix(
            counts, predictions.classes,
            f'{len(predictions.paths)} images, top-1 '
            f'{100 * values["top1"]:.1f} %')
        Image.fromarray(picture).save(folder / 'confusion_matrix.png')


def _log_warning(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)
