"""Concordance of risks with survival, also of bootstrap resamples."""

from collections.abc import Sequence

import numpy as np

from mmmedmask.evaluation.classification_scores import draw_resamples
from mmmedmask.util.checks import check_shape


def check_follow_up(risks: np.ndarray, months: np.ndarray,
                    events: np.ndarray) -> None:
    """Refuse risks, months and events (N,) that have no concordance."""
    check_shape('risks', risks, ('N', ))
    check_shape('months', months, risks.shape, 'one for each risk')
    check_shape('events', events, risks.shape, 'one for each risk')
    if len(risks) == 0:
        raise ValueError('there are no risks to evaluate')
    broken = ~(np.isfinite(risks) & np.isfinite(months))
    if broken.any():
        place = broken.argmax()
        raise ValueError(f'patient {place} has the risk {risks[place]} and '
                         f'{months[place]} months: both must be finite')


def concordance(risks: np.ndarray, months: np.ndarray, events: np.ndarray,
                strata: np.ndarray | None = None) -> float | None:
    """Compute Harrell's C index (JAMA 1982), in [0, 1]; None without a pair.

    Of all pairs of which it is known who died first, the share in which that
    patient had the higher risk; equal risks count half. For the
    arguments see :func:`resampled_concordance`, for errors
    :func:`check_follow_up`.
    """
    check_follow_up(risks, months, events)
    value, = resampled_concordance(
        risks, months, events, np.ones((1, len(risks))), strata)
    return None if np.isnan(value) else float(value)


def known_pairs(months: np.ndarray, events: np.ndarray) -> np.ndarray:
    """Find the pairs in which it is known who died first, bool (N, N).

    The row's patient died before the column's. A patient who is censored at
    the time of a death counts as alive then.
    """
    earlier = months[:, None] < months
    same = months[:, None] == months
    return events[:, None] & (earlier | (same & ~events))


def resampled_concordance(risks: np.ndarray, months: np.ndarray,
                          events: np.ndarray, counts: np.ndarray,
                          strata: np.ndarray | None = None) -> np.ndarray:
    """Compute the concordance (D,) of many resamples; NaN without a pair.

    Args:
        risks: Predicted risks, shape (N,).
        months: Times to death or to the last contact, (N,).
        events: Whether the death was observed, bool, (N,).
        counts: How often each patient is in each resample, shape (D, N).
        strata: Fold of each patient, (N,): only patients of one fold are
            compared, whose risks are of one model.
    """
    pairs = known_pairs(months, events)
    if strata is not None:
        pairs &= strata[:, None] == strata
    won = (pairs * (np.sign(risks[:, None] - risks) + 1)) / 2
    with np.errstate(invalid='ignore'):
        return (_quadratic(counts, won)
                / _quadratic(counts, pairs.astype(np.float64)))


def _quadratic(counts: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return ((counts @ pairs) * counts).sum(axis=1)


def bootstrap_concordance(risks: np.ndarray, months: np.ndarray,
                          events: np.ndarray, num_draws: int, seed: int = 0,
                          groups: Sequence[str] | None = None,
                          strata: np.ndarray | None = None) -> np.ndarray:
    """Compute :func:`resampled_concordance` of bootstrap resamples, (D,).

    ``groups`` are names of the N patients, who are drawn as a whole.
    """
    return np.concatenate([
        resampled_concordance(risks, months, events, counts, strata)
        for counts in draw_resamples(len(risks), num_draws, seed, groups)])
