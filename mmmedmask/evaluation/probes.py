"""Probes of frozen encoders: nearest neighbours, a linear and a dense one.

A score says something beside its floors alone: the same encoder at random
weights, and the colour of the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mmmedmask.evaluation.base_metric import log_warning
from mmmedmask.evaluation.classification_scores import (
    bootstrap_scores,
    classification_scores,
    percentile_interval,
)
from mmmedmask.util.checks import check_integer, check_positive

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse regularisation strengths that the logistic probe chooses from."""
FOLDS = 3
"""Folds inside the training split on which the strength is chosen."""
TIE = 8
"""Similarities closer than so many roundings are equal."""


@dataclass(frozen=True)
class ProbeScore:
    """A score of a probe with its bootstrap interval.

    Attributes:
        name: ``'knn'``, ``'logistic'`` or ``'dense_N'``.
        value: Balanced accuracy in [0, 1], for dense probes the area under
            the ROC curve; ``low`` and ``high`` bound its 95 % interval.
        floor: What a constant answer scores.
        draws: The score in each resample, (D,); the resamples depend on the
            test images alone, not on the encoder. None where it is NaN.
    """

    name: str
    value: float
    low: float
    high: float
    floor: float
    draws: np.ndarray | None = field(default=None, repr=False, compare=False)

    def less(self, other: 'ProbeScore') -> tuple[float, float, float]:
        """Subtract the score of another encoder on the same test images.

        Gives the difference and its 95 % bootstrap interval, paired by image
        or by group; NaN where one of both is not defined.
        """
        difference = self.value - other.value
        if self.draws is None or other.draws is None:
            return difference, np.nan, np.nan
        return difference, *percentile_interval(self.draws - other.draws)


def knn_scores(train: np.ndarray, train_labels: np.ndarray, test: np.ndarray,
               num_classes: int, num_neighbors: int = 20,
               temperature: float = 0.07) -> np.ndarray:
    """Let the nearest training images vote, as DINO does.

    A neighbour's vote is ``exp(cosine similarity / temperature)`` (Wu et
    al., CVPR 2018; Caron et al., ICCV 2021). Those as far as the last one
    share the places that are left: the order of the images changes nothing.

    Args:
        train: Features of the training images, (N, D).
        train_labels: Their classes, integers (N,).
        test: Features to classify, (M, D).
        num_neighbors: Neighbours that vote; of fewer images, all.
        temperature: Small values let the nearest one decide.

    Returns:
        Shares of the votes, (M, K).
    """
    _check_features(train, train_labels, test)
    check_integer('num_neighbors', num_neighbors)
    check_positive('temperature', temperature)
    similarity = unit_rows(test) @ unit_rows(train).T
    count = min(num_neighbors, len(train))
    nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    rows = np.arange(len(test))[:, None]
    close = similarity[rows, nearest]
    weights = np.exp((close - close.max(axis=1, keepdims=True)) / temperature)
    votes = np.zeros((len(test), num_classes))
    np.add.at(votes, (rows, train_labels[nearest]), weights)
    tie = TIE * np.finfo(similarity.dtype).eps
    last = close.min(axis=1, keepdims=True)
    for row in np.flatnonzero(
            (similarity >= last - tie).sum(axis=1) > count):
        above = similarity[row] > last[row] + tie
        tied = ~above & (similarity[row] >= last[row] - tie)
        shares = above + tied * (count - above.sum()) / tied.sum()
        votes[row] = np.bincount(train_labels, shares * np.exp(
            (similarity[row] - close[row].max()) / temperature), num_classes)
    return votes / votes.sum(axis=1, keepdims=True)


def logistic_scores(train: np.ndarray, train_labels: np.ndarray,
                    test: np.ndarray, num_classes: int,
                    groups: Sequence[str] | None = None,
                    seed: int = 0) -> np.ndarray:
    """Fit a logistic regression on standardised features.

    The strength of the regularisation is chosen by cross-validation
    inside the training split, by balanced accuracy. For features and labels
    see :func:`knn_scores`.

    Args:
        groups: The patient of each training image, kept whole in the folds.

    Returns:
        Probabilities (M, K); 0 for classes without a training image.

    Raises:
        ValueError: If all training images are of one class.
    """
    _check_features(train, train_labels, test)
    present = np.unique(train_labels)
    if len(present) < 2:
        raise ValueError('a logistic probe needs training images of two '
                         f'classes, all {len(train)} are of class '
                         f'{present[0]}')
    strength = _choose_strength(train, train_labels, groups, seed)
    model = _logistic(strength).fit(train, train_labels)
    scores = np.zeros((len(test), num_classes))
    scores[:, present] = model.predict_proba(test)
    return scores


def _choose_strength(features: np.ndarray, labels: np.ndarray,
                     groups: Sequence[str] | None, seed: int) -> float:
    """The strength with the best balanced accuracy, the weaker of equals."""
    units = np.arange(len(labels)) if groups is None else np.asarray(groups)
    fewest = min(
        len(np.unique(units[labels == label])) for label in np.unique(labels))
    if fewest < 2:
        return 1.0
    # Behind it stand SciPy and pandas: a run that probes nothing has no use
    # for them.
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(min(FOLDS, fewest), shuffle=True, random_state=seed)
    folds = [(rest, held_out) for rest, held_out in splitter.split(
                 features, labels, None if groups is None else units)
             if len(np.unique(labels[rest])) > 1]
    means = []
    for strength in STRENGTHS:
        model = _logistic(strength)
        means.append(np.mean([balanced_accuracy_score(
            labels[held_out], model.fit(features[rest], labels[rest]).predict(
                features[held_out])) for rest, held_out in folds] or [0]))
    return STRENGTHS[int(np.argmax(means))]


def _logistic(strength: float):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    return make_pipeline(
        StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def score_probe(name: str, labels: np.ndarray, scores: np.ndarray,
                groups: Sequence[str] | None = None, num_draws: int = 1000,
                score: str = 'balanced_accuracy') -> ProbeScore:
    """Score a probe's answers, with an interval by image or by group.

    It is NaN, with a warning, where all images are of one class: the AUC is
    not defined, and a constant answer has the best accuracy.

    Args:
        labels: True classes, integers (M,).
        scores: One score per class, (M, K).
        groups: The patient of each image; patients are resampled whole.
        score: A name that ``classification_scores`` knows.
    """
    value = np.nan
    if len(np.unique(labels)) > 1:
        value = classification_scores(labels, scores).get(score, np.nan)
    low = high = np.nan
    draws = None
    if np.isnan(value):
        log_warning(f'Probe {name}: {score} is NaN, since all samples of the '
                    f'test set are of class {labels[0]}.')
    else:
        draws = bootstrap_scores(labels, scores, num_draws,
                                 groups=groups)[score]
        low, high = percentile_interval(draws)
    floor = 0.5 if score == 'auc' else 1 / len(np.unique(labels))
    return ProbeScore(name, float(value), low, high, floor, draws)


def dense_scores(train: Sequence[tuple[np.ndarray, np.ndarray]],
                 test: Sequence[tuple[np.ndarray, np.ndarray]],
                 num_images: int | None = None, draws: int = 5,
                 seed: int = 0) -> list[np.ndarray]:
    """Fit a logistic regression on single pixels of a few images.

    Args:
        train: Features (P, D) and labels (P,), 0 or 1, of the pixels of each
            training image.
        test: The same of each test image; P may differ.
        num_images: Training images to fit on, drawn at random of those with
            both labels; None takes all, once.
        draws: How often a few images are drawn.

    Returns:
        For each draw the probability of label 1 of all test pixels, images
        one after another.
    """
    if num_images is None:
        chosen = [np.arange(len(train))]
    else:
        check_integer('num_images', num_images, 1, len(train))
        generator = np.random.default_rng(seed)
        # Images with both labels: no classifier can be fitted on one.
        usable = np.flatnonzero(
            [len(np.unique(labels)) == 2 for _, labels in train])
        check_integer('num_images (of images with both labels)', num_images,
                      1, len(usable))
        chosen = [generator.choice(usable, num_images, replace=False)
                  for _ in range(draws)]
    pixels = np.concatenate([features for features, _ in test])
    answers = []
    for images in chosen:
        features = np.concatenate([train[image][0] for image in images])
        labels = np.concatenate([train[image][1] for image in images])
        _check_features(features, labels, pixels, 'pixel')
        model = _logistic(0.1).fit(features, labels)
        answers.append(model.predict_proba(pixels)[:, 1])
    return answers


def probe_images(train: np.ndarray, train_labels: np.ndarray, test: np.ndarray,
                 test_labels: np.ndarray, num_classes: int,
                 train_groups: Sequence[str] | None = None,
                 test_groups: Sequence[str] | None = None,
                 seed: int = 0) -> list[ProbeScore]:
    """Run :func:`knn_scores` and :func:`logistic_scores` on whole images."""
    answers = dict(knn=knn_scores(train, train_labels, test, num_classes),
                   logistic=logistic_scores(train, train_labels, test,
                                            num_classes, train_groups, seed))
    return [score_probe(name, test_labels, scores, test_groups)
            for name, scores in answers.items()]


def probe_pixels(train: Sequence[tuple[np.ndarray, np.ndarray]],
                 test: Sequence[tuple[np.ndarray, np.ndarray]],
                 few: Sequence[int | None] = (1, 5, 20, None),
                 seed: int = 0, groups: Sequence[str] | None = None
                 ) -> list[ProbeScore]:
    """Run the dense probe on a few and on all training images.

    ``few`` are their numbers, of which None takes all; those above that of
    the images with both labels are left out. Gives a score ``'dense_N'``
    (``'dense_all'``) each: the area under the ROC curve over the pixels of
    all test images, its mean over the draws; the interval resamples images,
    or with ``groups``, the patient of each test image, these.
    """
    known = {int(label) for _, row in train for label in np.unique(row)}
    if len(known) < 2 or not test:
        raise ValueError(
            'a probe of pixels needs training pixels of both labels and test '
            f'images, got the labels {sorted(known)} in {len(train)} images '
            f'with a mask to fit on, and {len(test)} to test on')
    labels = np.concatenate([labels for _, labels in test]).astype(np.int64)
    units = np.arange(len(test)) if groups is None else np.asarray(groups)
    images = np.repeat(units, [len(row) for _, row in test])
    usable = sum(len(np.unique(row)) == 2 for _, row in train)
    results = []
    for count in few:
        if count is not None and count > usable:
            continue
        name = f'dense_{"all" if count is None else count}'
        parts = [score_probe(name, labels, np.stack([1 - row, row], axis=1),
                             images, num_draws=200, score='auc')
                 for row in dense_scores(train, test, count, seed=seed)]
        value = float(np.mean([part.value for part in parts]))
        low = high = np.nan
        draws = None
        if not np.isnan(value):
            draws = np.mean([part.draws for part in parts], axis=0)
            low, high = percentile_interval(draws)
        results.append(ProbeScore(name, value, low, high, 0.5, draws))
    return results


def unit_rows(values: np.ndarray) -> np.ndarray:
    """Bring rows (N, D) to length 1; those of length 0 stay."""
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.maximum(norms, 1e-12)


def _check_features(train: np.ndarray, labels: np.ndarray,
                    test: np.ndarray, noun: str = 'image') -> None:
    if train.ndim != 2 or test.ndim != 2 or not len(train) or not len(test) \
            or train.shape[1] != test.shape[1] or labels.shape != (
                len(train), ):
        raise ValueError(
            'features of shape (N, D) and (M, D) with labels (N,) needed, '
            f'got {train.shape}, {test.shape} and {labels.shape}')
    for name, values in (('training', train), ('test', test)):
        broken = ~np.isfinite(values).all(axis=1)
        if broken.any():
            raise ValueError(f'the features of {name} {noun} '
                             f'{broken.argmax()} are not finite')
