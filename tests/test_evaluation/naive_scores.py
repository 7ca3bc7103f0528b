"""The scores of classifiers by loops and textbook formulas, in float64.

And our metrics on samples, as a test loop calls them.
"""

import numpy as np
from mmengine.evaluator import Evaluator


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
    return labels, scores.round(digits)


def naive_auc(positive, scores):
    """The share of won pairs, ties half."""
    won, pairs = 0.0, 0
    for score, is_positive in zip(scores, positive, strict=True):
        for other, other_positive in zip(scores, positive, strict=True):
            if is_positive and not other_positive:
                pairs += 1
                won += 1.0 if score > other else 0.5 * (score == other)
    return won / pairs


def naive_kappa(labels, predicted, num_classes):
    """Observed against expected disagreement, both as shares."""
    number = len(labels)
    observed = expected = 0.0
    for row in range(num_classes):
        for column in range(num_classes):
            weight = (row - column)**2 / (num_classes - 1)**2
            both = sum(a == row and b == column
                       for a, b in zip(labels, predicted, strict=True))
            rows = sum(a == row for a in labels)
            columns = sum(b == column for b in predicted)
            observed += weight * both / number
            expected += weight * rows * columns / number**2
    return 1 - observed / expected


def naive_scores(labels, scores):
    """All scores by loops in float64."""
    predicted = []
    for row in scores:
        best = 0
        for index, score in enumerate(row):
            if score > row[best]:
                best = index
        predicted.append(best)
    recalls, f1, areas, right = [], [], [], 0
    for index in sorted(set(labels.tolist())):
        hits = missed = wrong = 0
        for label, guess in zip(labels, predicted, strict=True):
            hits += label == guess == index
            missed += label == index != guess
            wrong += guess == index != label
        right += hits
        recalls.append(hits / (hits + missed))
        f1.append(2 * hits / (2 * hits + missed + wrong))
        areas.append(naive_auc(labels == index, scores[:, index]))
    return dict(top1=right / len(labels), balanced_accuracy=np.mean(recalls),
                auc=np.mean(areas), f1=np.mean(f1),
                kappa=naive_kappa(labels, predicted, scores.shape[1]))


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


def naive_nominal_kappa(labels, predicted):
    """Cohen's kappa from observed and expected agreement."""
    number = len(labels)
    observed = sum(a == b for a, b in zip(labels, predicted, strict=True))
    expected = sum(
        sum(a == name for a in labels) * sum(b == name for b in predicted)
        for name in {*labels.tolist(), *predicted.tolist()})
    observed, expected = observed / number, expected / number**2
    return (observed - expected) / (1 - expected)


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
