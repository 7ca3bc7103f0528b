"""Markdown tables of scores."""

import math
import statistics
from collections.abc import Sequence


def mean_and_spread(values: Sequence[float | None]) -> str:
    """Mean and sample deviation in points of what is defined, else a dash.

    None and NaN are not; where others are, their number stands behind.

    Example:
        >>> mean_and_spread([.5, .7, None])
        '60.0 ± 14.1 (2)'
    """
    points = [100 * value for value in values
              if value is not None and not math.isnan(value)]
    if not points:
        return '–'
    cell = f'{statistics.mean(points):.1f}'
    if len(points) > 1:
        cell += f' ± {statistics.stdev(points):.1f}'
    return cell if len(points) == len(values) else f'{cell} ({len(points)})'


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Write rows of cells, of which the first is the header.

    Example:
        >>> print(markdown([['row', 'AUC'], ['ours', '0.9']]))
        | row | AUC |
        | --- | --- |
        | ours | 0.9 |
    """
    return '\n'.join('| ' + ' | '.join(
        cell.replace('|', r'\|') for cell in row) + ' |' for row in
        [rows[0], ['---'] * len(rows[0]), *rows[1:]])
