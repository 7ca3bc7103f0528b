"""Scores of a classifier, and what chance may have added to them.

Those of thousands of resamples are computed together, and equal
scikit-learn's.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from mmmedmask.util.checks import check_choice, check_integer, check_shape

GRADED_NAMES = ('top1', 'balanced_accuracy', 'auc', 'f1', 'kappa')
CALIBRATION_BINS = 15
# Resamples are computed in chunks of about so many numbers.
CHUNK = 4_000_000


def check_predictions(labels: np.ndarray, scores: np.ndarray) -> None:
    """Refuse labels (N,) and scores (N, C) that no score can be computed of.

    No sample, other shapes, a label that is not a class, NaN or infinities.
    """
    check_shape('scores', scores, ('N', 'C'))
    check_shape('labels', labels, (len(scores), ), 'one for each sample')
    if len(labels) == 0:
        raise ValueError('there are no predictions to evaluate')
    wrong = (labels < 0) | (labels >= scores.shape[1])
    if wrong.any():
        raise ValueError(
            f'label {labels[wrong][0]} of sample {wrong.argmax()} is not a '
            f'class of 0 to {scores.shape[1] - 1}')
    broken = ~np.isfinite(scores).all(axis=1)
    if broken.any():
        raise ValueError(f'the scores of sample {broken.argmax()} are not '
                         f'finite: {scores[broken][0]}')


def check_probabilities(scores: np.ndarray) -> None:
    """Refuse rows of scores (N, C) that are negative, NaN or not 1 in sum.

    Half precision may round a hundredth away.
    """
    # NaN is on neither side of a bound.
    wrong = ~((scores >= 0).all(axis=1)
              & (abs(scores.sum(axis=1) - 1) <= 0.01))
    if wrong.any():
        raise ValueError(
            f'the scores of sample {wrong.argmax()} are not probabilities: '
            f'{scores[wrong][0]}; they must not be negative and sum to 1')


def calibration_error(labels: np.ndarray, scores: np.ndarray,
                      num_bins: int = 15) -> float:
    """Compute the expected calibration error, in [0, 1].

    Samples are sorted into bins of equal width by their confidence, the
    probability of the predicted class; the error is the mean distance of a
    bin's accuracy from its mean confidence, weighted by its samples (Guo et
    al. 2017, equation 3).

    Args:
        labels: True classes, integers (N,).
        scores: Probability of each class, (N, C).
        num_bins: Each holds its upper edge.

    Raises:
        ValueError: See :func:`check_predictions`, :func:`check_probabilities`.
    """
    check_predictions(labels, scores)
    gaps = _calibration_gaps(labels, scores, num_bins)
    return float(abs(gaps.sum(axis=0)).sum() / len(labels))


def _calibration_gaps(labels: np.ndarray, scores: np.ndarray,
                      num_bins: int) -> np.ndarray:
    """Right or not minus confidence, in the column of the bin, (N, bins)."""
    check_probabilities(scores)
    check_integer('num_bins', num_bins)
    confidence = scores.max(axis=1)
    edges = np.arange(num_bins + 1) / num_bins
    bins = (edges.searchsorted(confidence) - 1).clip(0, num_bins - 1)
    gaps = np.zeros((len(labels), num_bins))
    gaps[np.arange(len(labels)), bins] = (
        (scores.argmax(axis=1) == labels) - confidence)
    return gaps


def class_ranking(scores: np.ndarray) -> np.ndarray:
    """What orders samples by each of their scores (N, C), float64.

    The scores themselves, but for probabilities near 1: these are rounded
    to a few values, while what is left for the other classes is not. From
    .999 on, minus its logarithm is what orders them.
    """
    scores = np.asarray(scores, np.float64)
    if (scores < 0).any() or (abs(scores.sum(axis=1) - 1) > 0.01).any():
        return scores
    ranks = scores.copy()
    for index in range(scores.shape[1]):
        near = scores[:, index] >= 0.999
        rest = np.delete(scores[near], index, axis=1).sum(axis=1)
        ranks[near, index] = -np.log(rest.clip(min=np.nextafter(0, 1)))
    return ranks


def classification_scores(labels: np.ndarray, scores: np.ndarray,
                          kappa: str | None = None,
                          calibration_bins: int = 0) -> dict[str, float]:
    """Compute all scores, by scikit-learn.

    ``top1``; ``balanced_accuracy``, the mean recall; ``auc``, the mean area
    under the ROC curve of one class against the rest, ties counted half, in
    the order of :func:`class_ranking`; ``f1``, the mean F1. Means run over the
    classes that have samples.
    ``kappa`` is Cohen's, ``ece`` the error of :func:`calibration_error`.

    Args:
        labels: True classes, integers (N,).
        scores: One score per class, float (N, C). The prediction is the
            largest, the first of several.
        kappa: ``'quadratic'`` for classes that are grades of a disease, in
            their order, so that a confusion weighs by its squared distance;
            ``'nominal'`` for classes without an order; None for no kappa.
        calibration_bins: Number of bins of ``ece``; 0 for no ``ece``.

    Returns:
        Scores in [0, 1] (kappa in [-1, 1]). Without ``auc`` if all samples
        are of one class, without ``kappa`` if all are of one class and
        predicted so: neither is defined then.

    Raises:
        ValueError: See :func:`check_predictions`, :func:`calibration_error`.
    """
    from sklearn import metrics

    check_predictions(labels, scores)
    check_choice('kappa', kappa, (None, 'nominal', 'quadratic'))
    predicted = scores.argmax(axis=1)
    present = np.unique(labels)
    means = dict(labels=present, average='macro', zero_division=0)
    values = dict(
        top1=metrics.accuracy_score(labels, predicted),
        balanced_accuracy=metrics.recall_score(labels, predicted, **means))
    if len(present) > 1:
        ranks = class_ranking(scores)
        values['auc'] = np.mean([
            metrics.roc_auc_score(labels == index, ranks[:, index])
            for index in present])
    values['f1'] = metrics.f1_score(labels, predicted, **means)
    if kappa and len(np.union1d(labels, predicted)) > 1:
        values['kappa'] = metrics.cohen_kappa_score(
            labels, predicted, labels=range(scores.shape[1]),
            weights='quadratic' if kappa == 'quadratic' else None)
    if calibration_bins:
        values['ece'] = calibration_error(labels, scores, calibration_bins)
    return {name: float(value) for name, value in values.items()}


def confusion_counts(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Count predictions: int64 (C, C), rows are true classes."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, scores.argmax(axis=1),
                            labels=range(scores.shape[1]))


def bootstrap_counts(generator: np.random.Generator, num_draws: int,
                     units: np.ndarray) -> np.ndarray:
    """Draw units with replacement, as many as there are.

    ``units`` (N,), from 0, are those of the samples, such as patients of
    images. Returns how often each sample is in each resample, float64 (D, N).
    """
    num_units = int(units.max()) + 1
    drawn = generator.integers(0, num_units, (num_draws, num_units))
    drawn += np.arange(num_draws)[:, None] * num_units
    counts = np.bincount(drawn.ravel(), minlength=num_draws * num_units)
    return counts.reshape(num_draws, num_units)[:, units].astype(np.float64)


def draw_resamples(
        number: int, num_draws: int, seed: int = 0,
        groups: Sequence[str] | None = None) -> Iterator[np.ndarray]:
    """Draw bootstrap resamples, in chunks that fit into memory.

    Groups (patients, lesions; N names) are drawn instead of the N samples,
    since images of one patient are not independent. Yields how often each
    sample is in each resample, (D, N) in all.
    """
    units = np.arange(number) if groups is None else np.unique(
        np.asarray(groups), return_inverse=True)[1]
    generator = np.random.default_rng(seed)
    size = max(1, CHUNK // number)
    for start in range(0, num_draws, size):
        yield bootstrap_counts(generator, min(size, num_draws - start), units)


def resampled_scores(labels: np.ndarray, scores: np.ndarray,
                     counts: np.ndarray, kappa: str | None = None,
                     calibration_bins: int = 0) -> dict[str, np.ndarray]:
    """Compute the scores of many resamples at once.

    ``counts`` (D, N) say how often each sample is in each resample. Gives the
    scores of :func:`classification_scores`, each (D,), NaN where one is not
    defined. A class that a resample lacks is left out of its means.
    """
    num_classes = scores.shape[1]
    cells = labels * num_classes + scores.argmax(axis=1)
    matrices = np.array([np.bincount(cells, row, num_classes**2)
                         for row in counts])
    matrices = matrices.reshape(-1, num_classes, num_classes)
    right = np.diagonal(matrices, axis1=1, axis2=2)
    true, predicted = matrices.sum(axis=2), matrices.sum(axis=1)
    total = true.sum(axis=1)
    present = true > 0
    with np.errstate(divide='ignore', invalid='ignore'):
        values = dict(top1=right.sum(axis=1) / total,
                      balanced_accuracy=_mean_where(right / true, present),
                      auc=_mean_auc(labels, scores, counts, present),
                      f1=_mean_where(2 * right / (true + predicted), present))
        if kappa:
            grades = np.arange(num_classes)
            distance = (grades[:, None] - grades)**2
            distance = distance > 0 if kappa == 'nominal' else distance
            observed = (matrices * distance).sum(axis=(1, 2))
            chance = np.einsum('di,ij,dj->d', true, distance, predicted)
            values['kappa'] = 1 - observed * total / chance
    if calibration_bins:
        gaps = counts @ _calibration_gaps(labels, scores, calibration_bins)
        values['ece'] = abs(gaps).sum(axis=1) / total
    return values


def _mean_where(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Mean over the last axis; NaN if it holds nothing."""
    return np.where(where, values, 0).sum(axis=1) / where.sum(axis=1)


def _mean_auc(labels: np.ndarray, scores: np.ndarray, counts: np.ndarray,
              present: np.ndarray) -> np.ndarray:
    """Mean area under the ROC curves, (D,): pairs won, equal ones half."""
    areas = np.zeros(present.shape)
    scores = class_ranking(scores)
    for index in range(scores.shape[1]):
        order = scores[:, index].argsort(kind='stable')
        ranked = scores[order, index]
        positive = labels[order] == index
        if not positive.any():
            continue
        weights = counts[:, order]
        below = np.zeros((len(counts), len(labels) + 1))
        np.cumsum(weights * ~positive, axis=1, out=below[:, 1:])
        lower = ranked.searchsorted(ranked[positive], side='left')
        upper = ranked.searchsorted(ranked[positive], side='right')
        weights = weights[:, positive]
        won = (weights * (below[:, lower] + below[:, upper])).sum(axis=1) / 2
        areas[:, index] = won / (weights.sum(axis=1) * below[:, -1])
    several = present.sum(axis=1, keepdims=True) > 1
    return _mean_where(areas, present & several)


def bootstrap_scores(labels: np.ndarray, scores: np.ndarray, num_draws: int,
                     seed: int = 0, groups: Sequence[str] | None = None,
                     kappa: str | None = None,
                     calibration_bins: int = 0) -> dict[str, np.ndarray]:
    """Compute :func:`resampled_scores` of :func:`draw_resamples`."""
    parts = [
        resampled_scores(labels, scores, counts, kappa, calibration_bins)
        for counts in draw_resamples(len(labels), num_draws, seed, groups)]
    return {name: np.concatenate([part[name] for part in parts])
            for name in parts[0]}


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """Cut the tails off a bootstrap distribution (D,): its 95 % interval.

    NaN does not count; if there is nothing else, it is a ValueError.
    """
    values = values[~np.isnan(values)]
    if len(values) == 0:
        raise ValueError('the score is defined in no resample')
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
