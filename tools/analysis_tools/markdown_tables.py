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


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Write rows of cells, of which the first is the header."""
    rows = [rows[0], ['---'] * len(rows[0]), *rows[1:]]
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)
