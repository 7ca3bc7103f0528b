"""Markdown tables of scores, for the commands of this folder."""

import statistics
from collections.abc import Sequence


def mean_and_spread(values: Sequence[float | None]) -> str:
    """Mean and sample deviation in points; a dash if one is not defined."""
    if None in values:
        return '–'
    points = [100 * value for value in values]
    if len(points) == 1:
        return f'{points[0]:.1f}'
    return f'{statistics.mean(points):.1f} ± {statistics.stdev(points):.1f}'


def interval_of_mean(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval (Student's t), without width for one."""
    mean = statistics.mean(values)
    if len(values) == 1:
        return mean, mean, mean
    from scipy import stats

    half = (stats.t.ppf(0.975, len(values) - 1) *
            statistics.stdev(values) / len(values)**0.5)
    return mean, mean - half, mean + half


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Write rows of cells, of which the first is the header."""
    rows = [rows[0], ['---'] * len(rows[0]), *rows[1:]]
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)
