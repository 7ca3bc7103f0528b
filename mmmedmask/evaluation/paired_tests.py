"""Whether two classifiers differ on the same patients, or by chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

import numpy as np

from mmmedmask.evaluation.patient_tables import (
    PatientPredictions,
    check_unique,
)
from mmmedmask.util.checks import check_shape

LISTED = 5


def deviation(values: Sequence[float]) -> float:
    """Sample standard deviation of two values or more, NaN if one is."""
    return float(np.std(values, ddof=1))


def interval_of_mean(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of independent values, and its 95 % interval (Student's t).

    Gives mean, lower and upper end; of one value all three are this value.
    """
    mean = fmean(values)
    if len(values) == 1:
        return mean, mean, mean
    from scipy import stats

    half = (stats.t.ppf(0.975, len(values) - 1) * deviation(values) /
            len(values)**0.5)
    return mean, mean - half, mean + half


@dataclass(frozen=True)
class McNemar:
    """Patients that one classifier alone gets right."""

    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True)
class DeLong:
    """Two areas under ROC curves on the same patients.

    Attributes:
        difference: First minus second; ``low`` and ``high`` bound its 95 %
            interval.
        p_value: Two-sided; NaN if the areas differ and no resampling of the
            patients could change that (the estimated variance is 0).
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float


def exact_mcnemar(first_right: np.ndarray,
                  second_right: np.ndarray) -> McNemar:
    """Test whether two classifiers, bool (N,), are right equally often.

    McNemar 1947, two-sided, with the exact binomial probability instead of
    chi-square, which few discordant patients do not follow.
    """
    first_right = np.asarray(first_right, bool)
    second_right = np.asarray(second_right, bool)
    check_shape('first_right', first_right, ('N', ))
    check_shape('second_right', second_right, first_right.shape,
                'one for each patient')
    first = int((first_right & ~second_right).sum())
    second = int((second_right & ~first_right).sum())
    number, fewer = first + second, min(first, second)
    tail = sum(math.comb(number, count) for count in range(fewer + 1))
    # In whole numbers as long as they may be too large for a float.
    p_value = min(1.0, float(2 * tail / 2**number)) if number else 1.0
    return McNemar(first, second, p_value)


def delong(positive: np.ndarray, first: np.ndarray,
           second: np.ndarray) -> DeLong:
    """Test whether two areas under ROC curves differ.

    DeLong et al. 1988: the areas are means over pairs of a positive and a
    negative patient, ties counted half, and their covariance follows from
    each patient's mean over its pairs.

    Args:
        positive: Whether each patient is of the class, bool (N,).
        first: Scores of the first classifier, (N,).

    Raises:
        ValueError: If the shapes differ, a score is not finite, or there are
            fewer than two patients of the class or of the others.
    """
    positive = np.asarray(positive, bool)
    scores = [np.asarray(given, np.float64) for given in (first, second)]
    check_shape('positive', positive, ('N', ))
    for given in scores:
        check_shape('scores', given, positive.shape, 'one for each patient')
    if not np.isfinite(scores).all():
        raise ValueError('scores must be finite')
    counts = int(positive.sum()), int((~positive).sum())
    if min(counts) < 2:
        raise ValueError('at least two patients of the class and two others '
                         f'are needed, got {counts[0]} and {counts[1]}')
    of_positive, of_negative = (np.stack(parts) for parts in zip(
        *(_placements(positive, given) for given in scores), strict=True))
    areas = of_positive.mean(axis=1)
    difference = float(areas[0] - areas[1])
    # The variance of the difference is that of the patients' differences.
    variance = sum(np.diff(part, axis=0)[0].var(ddof=1) / part.shape[1]
                   for part in (of_positive, of_negative))
    error = math.sqrt(variance)
    if error > 1e-12:
        p_value = math.erfc(abs(difference) / error / math.sqrt(2))
    else:
        p_value = 1.0 if abs(difference) < 1e-12 else math.nan
    reach = NormalDist().inv_cdf(0.975) * error
    return DeLong(float(areas[0]), float(areas[1]), difference,
                  difference - reach, difference + reach, p_value)


def _placements(positive: np.ndarray,
                scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of won pairs of each positive and each negative patient."""
    inside, outside = scores[positive], scores[~positive]
    parts = []
    for mine, others in ((inside, np.sort(outside)),
                         (outside, np.sort(inside))):
        below = others.searchsorted(mine, side='left')
        upto = others.searchsorted(mine, side='right')
        parts.append((below + upto) / (2 * len(others)))
    return parts[0], 1 - parts[1]


def pair_patients(first: PatientPredictions,
                  second: PatientPredictions,
                  names: Sequence[str] = ('the first', 'the second')
                  ) -> PatientPredictions:
    """Bring the second predictions into the first's order, also of classes.

    A ValueError names by ``names`` which patients, classes or labels differ.
    """
    if set(first.classes) != set(second.classes):
        raise ValueError(f'the classes differ: {list(first.classes)} in '
                         f'{names[0]}, {list(second.classes)} in {names[1]}')
    for table, name in ((first, names[0]), (second, names[1])):
        check_unique(table.case_ids, name)
    lacking = {name: sorted(set(other.case_ids) - set(table.case_ids))
               for table, other, name in ((first, second, names[0]),
                                          (second, first, names[1]))}
    if any(lacking.values()):
        raise ValueError('the cases differ: ' + '; '.join(
            f'{name} lacks {len(cases)} ({", ".join(cases[:LISTED])}'
            f'{", ..." * (len(cases) > LISTED)})'
            for name, cases in lacking.items() if cases))
    places = {case: place for place, case in enumerate(second.case_ids)}
    order = [places[case] for case in first.case_ids]
    columns = [list(second.classes).index(name) for name in first.classes]
    labels = np.array([columns.index(label) for label in second.labels[order]])
    wrong = np.flatnonzero(labels != first.labels)
    if len(wrong):
        place = wrong[0]
        raise ValueError(
            f'{len(wrong)} labels differ: case {first.case_ids[place]} is '
            f'{first.classes[first.labels[place]]!r} in {names[0]}, '
            f'{first.classes[labels[place]]!r} in {names[1]}')
    return PatientPredictions(
        case_ids=list(first.case_ids), labels=labels,
        scores=second.scores[order][:, columns], classes=list(first.classes),
        modalities=[second.modalities[place] for place in order],
        slides=[second.slides[place] for place in order])
