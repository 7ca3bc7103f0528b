"""All scores of a disease classifier from one pass, with intervals."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmmedmask.evaluation.base_metric import log_warning
from mmmedmask.evaluation.classification_metric import (
    ClassificationMetric,
    check_prediction,
)
from mmmedmask.evaluation.predictions import (
    Predictions,
    relative_path,
    write_predictions,
)
from mmmedmask.registry import METRICS


@METRICS.register_module()
class DiseaseClassification(ClassificationMetric):
    """Accuracy, AUC, F1, kappa, the confusion matrix and 95 % intervals.

    Medical test sets are small and unbalanced, hence several scores with
    bounds, see :class:`ClassificationMetric`: ``top1``, ``balanced_accuracy``
    (mean recall), ``auc`` (one class against the rest, ties counted half,
    mean over classes), ``f1`` (mean over classes), and for graded diseases
    ``kappa`` (Cohen's, quadratic weights).

    If the samples carry a group (a patient, a lesion), resamples draw
    groups, else images. Each evaluation writes ``predictions.csv``, too: see
    :func:`~mmmedmask.evaluation.predictions.write_predictions`.

    Samples need ``pred_score``, one ``gt_label`` and ``img_path``, as the
    predictions of mmpretrain's classifiers have them. For a group, put
    ``group`` into the ``meta_keys`` of the pipeline's last transform.

    Args:
        graded: Whether the classes are grades of a disease in their order.
        num_bootstrap: Number of resamples; 0 for no intervals.
        data_root: Paths below this folder are written relative to it.
    """

    default_prefix = 'disease'

    def __init__(self, graded: bool = False, num_bootstrap: int = 1000,
                 seed: int = 0, data_root: str | None = None,
                 out_dir: str | None = None, collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(
            num_bootstrap, seed, kappa='quadratic' if graded else None,
            out_dir=out_dir, collect_device=collect_device, prefix=prefix)
        self.data_root = data_root

    def process(self, data_batch, data_samples: Sequence[Mapping]) -> None:
        for sample in data_samples:
            path = sample.get('img_path')
            check_prediction(sample, ('pred_score', 'gt_label', 'img_path'),
                             path or 'an image')
            scores = sample['pred_score'].detach().float().cpu().numpy()
            group = sample.get('group')
            self.results.append(
                dict(path=str(path), label=int(sample['gt_label']),
                     scores=scores, group='' if group is None else str(group)))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        predictions = self._gather(results, self.check_results(results))
        if repeated := len(predictions.paths) - len(set(predictions.paths)):
            log_warning(f'{repeated} predictions are on images that have '
                        'another one already; all count.')
        values = self.measure(predictions.labels, predictions.scores,
                              predictions.classes, predictions.groups)
        self.write('predictions.csv', write_predictions, predictions)
        return values

    def _gather(self, results: Sequence[Mapping],
                classes: Sequence[str]) -> Predictions:
        groups = [result['group'] for result in results]
        if any(groups) and not all(groups):
            raise ValueError(f'{results[groups.index("")]["path"]} has no '
                             'group, but others have one')
        return Predictions(
            paths=[relative_path(result['path'], self.data_root)
                   for result in results],
            labels=np.array([result['label'] for result in results]),
            # Exact, and so are ties.
            scores=np.stack([result['scores'] for result in results]
                            ).astype(np.float64),
            classes=classes, groups=groups if any(groups) else None)
