"""Scores of a table's rows as dots, one per run, with intervals."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure

from mmmedmask.evaluation.paired_tests import interval_of_mean
from mmmedmask.visualization.curves import (
    LINE_COLOR,
    REFERENCE_COLOR,
    REFERENCE_STYLES,
)
from mmmedmask.visualization.pictures import draw_figure, legend_beside


def draw_score_dots(columns: Mapping[str, Mapping[str, Sequence[float]]],
                    references: Sequence[str] = ()) -> np.ndarray:
    """Draw a panel for each column of a table, a line for each of its rows.

    In the picture, RGB (H, W, 3), each score is a dot, the mean of a row a bar
    over its 95 % interval (Student's t).

    Args:
        columns: Title of a column to title of a row to its scores, one per
            run. Columns without a score are left out.
        references: Titles of rows, such as floors, whose means are lines
            over all rows: the first is dashed; a legend names them.
    """
    columns = {title: rows for title, rows in columns.items() if rows}
    if not columns:
        raise ValueError('no row has a score: nothing to draw')
    names = list(dict.fromkeys(
        name for rows in columns.values() for name in rows))
    figure = Figure((3 + 2.3 * len(columns), 1.1 + .32 * len(names)), dpi=110,
                    layout='constrained')
    lines = {}
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for panel, (title, rows) in zip(panels, columns.items(), strict=True):
        for name, scores in rows.items():
            height = names.index(name)
            mean, low, high = interval_of_mean(scores)
            panel.plot([low, high], [height] * 2, color=LINE_COLOR,
                       linewidth=1.4, alpha=.6)
            panel.plot([mean], [height], '|', color=LINE_COLOR,
                       markersize=11, markeredgewidth=2)
            panel.plot(scores, [height] * len(scores), 'o', color=LINE_COLOR,
                       markersize=3.5)
        for name, style in zip(references, cycle(REFERENCE_STYLES)):
            if rows.get(name):
                lines[name] = panel.axvline(
                    interval_of_mean(rows[name])[0], color=REFERENCE_COLOR,
                    linewidth=1, linestyle=style)
        panel.set_title(title, fontsize=9, loc='left')
        panel.tick_params(labelsize=8)
        panel.grid(axis='x', alpha=.25)
        panel.spines[['top', 'right']].set_visible(False)
    panels[0].set_yticks(range(len(names)), names, fontsize=8)
    panels[0].invert_yaxis()
    legend_beside(figure, lines, 8)
    return draw_figure(figure)
