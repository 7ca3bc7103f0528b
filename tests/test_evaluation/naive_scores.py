"""The scores of classifiers by scikit-learn and textbook formulas.

And our metrics on samples, as a test loop calls them.
"""

import numpy as np
from mmengine.evaluator import Evaluator
from sklearn import metrics


def evaluate_by(kind, samples, classes=None, **arguments):
    """Score samples by one of our metrics."""
    evaluator = Evaluator(dict(type=f'mmmedmask.{kind}', **arguments))
    evaluator.dataset_meta = dict(classes=classes)
    return evaluator.offline_evaluate(samples, chunk_size=7)


def draw_predictions(number=60, num_classes=4, seed=0, digits=1):
    """Labels, and scores rounded so that many are equal."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, num_classes, number)
    scores = random.random((number, num_classes))
    scores[np.arange(number), labels] += 0.3
    # Up to .65, as probabilities may be.
    return labels, scores.round(digits) / 2


def expected_scores(labels, scores, weights='quadratic'):
    """What scikit-learn says; classes without a sample count in no mean."""
    guess, present = scores.argmax(axis=1), np.unique(labels)
    means = dict(labels=present, average='macro', zero_division=0)
    return dict(
        top1=metrics.accuracy_score(labels, guess),
        balanced_accuracy=metrics.recall_score(labels, guess, **means),
        auc=np.mean([metrics.roc_auc_score(labels == index, scores[:, index])
                     for index in present]),
        f1=metrics.f1_score(labels, guess, **means),
        kappa=metrics.cohen_kappa_score(
            labels, guess, labels=range(scores.shape[1]), weights=weights))


def draw_probabilities(number=60, num_classes=3, seed=0, step=10):
    """Labels, and float32 probabilities in steps so that many are equal."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, num_classes, number)
    counts = np.stack([
        random.multinomial(step, weights) for weights in random.dirichlet(
            np.ones(num_classes), number)])
    counts[np.arange(number), labels] += step // 2
    scores = counts / counts.sum(axis=1, keepdims=True)
    return labels, scores.astype(np.float32)


def naive_calibration(labels, scores, num_bins):
    """Guo et al. 2017, equation 3, bin by bin."""
    error = 0.0
    for number in range(num_bins):
        low, high = number / num_bins, (number + 1) / num_bins
        inside = [(float(row.max()), int(row.argmax()) == label)
                  for row, label in zip(scores, labels, strict=True)
                  if low < row.max() <= high]
        if inside:
            confidence = sum(one for one, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            error += len(inside) / len(labels) * abs(accuracy - confidence)
    return error
