"""Curves of what a run logged."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np

from mmmedmask.util.checks import check_integer
from mmmedmask.util.file_walk import find_files
from mmmedmask.util.scalar_logs import read_scalar_log
from mmmedmask.visualization.pictures import draw_figure, legend_beside

LINE_COLOR = '#7a3b8f'
FAINT_COLOR = '#c9b3d3'
REFERENCE_COLOR = '#555555'
REFERENCE_STYLES = ('--', ':', '-.')


def read_scalars(work_dir: str | Path, name: str) -> list[tuple[int, float]]:
    """Read steps and values of a scalar from logs of MMEngine's local backend.

    Of a work dir all runs are read in their order, each in the place of those
    before it from its first step on (after a resume there are several); it
    may be the folder of one run. No log is an error.
    """
    files = find_files(Path(work_dir), 'vis_data/scalars.json')
    if not files:
        raise FileNotFoundError(
            f'no vis_data/scalars.json below {str(work_dir)!r}: is it the '
            'work dir of a run with a LocalVisBackend?')
    curve: list[tuple[int, float]] = []
    for file in files:
        later = [(row['step'], row[name]) for row in read_scalar_log(file)
                 if name in row]
        first = min((step for step, _ in later), default=np.inf)
        curve = [point for point in curve if point[0] < first] + later
    return curve


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Average over the last ``window`` of N values, fewer at the beginning."""
    check_integer('window', window)
    sums = np.convolve(values, np.ones(window))[:len(values)]
    return sums / np.minimum(np.arange(len(values)) + 1, window)


def draw_curves(curves: Mapping[str, Sequence[tuple[int, float]]],
                x_label: str = 'iteration', window: int = 1,
                size: tuple[float, float] = (4.6, 2.6),
                references: Mapping[str, Mapping[str, float]] | None = None,
                mark_points: bool = False, y_label: str = '') -> np.ndarray:
    """Draw curves side by side, each with its own axis, RGB (H, W, 3).

    An axis begins at 0 unless something is below.

    Args:
        curves: Title to pairs of step and value.
        window: Above 1, a running mean over so many values is drawn, too.
        size: Width and height of one curve in inches at 120 dots.
        references: Title to names and values to compare with, lines of
            which the first is dashed; a legend beside the curves names them.
        mark_points: Whether to mark each pair by a dot, for short curves.
        y_label: What all values are, with their unit.
    """
    references = references or {}
    if not set(references) <= set(curves):
        raise ValueError(f'references {sorted(references)} need a curve '
                         f'each, there are {sorted(curves)}')
    empty = [title for title, curve in curves.items() if len(curve) == 0]
    if empty or not curves:
        raise ValueError(f'nothing to draw, empty curves: {empty}')
    from matplotlib.figure import Figure
    figure = Figure((size[0] * len(curves), size[1]), dpi=120,
                    layout='constrained')
    axes = figure.subplots(1, len(curves), squeeze=False)[0]
    axes[0].set_ylabel(y_label, fontsize=9)
    styles = dict(zip(dict.fromkeys(
        name for values in references.values() for name in values),
                      cycle(REFERENCE_STYLES)))
    lines = {}
    for axis, (title, curve) in zip(axes, curves.items(), strict=True):
        steps, values = np.array(curve, dtype=float).T
        if window > 1:
            axis.plot(steps, values, color=FAINT_COLOR, linewidth=1)
            values = smooth(values, window)
        axis.plot(steps, values, color=LINE_COLOR, linewidth=1.8,
                  marker='o' if mark_points else None, markersize=4)
        for name, value in references.get(title, {}).items():
            lines[name] = axis.axhline(value, color=REFERENCE_COLOR,
                                       linewidth=1.2, linestyle=styles[name])
        axis.set_title(title, fontsize=10, loc='left')
        axis.set_xlabel(x_label, fontsize=9)
        axis.tick_params(labelsize=8)
        if axis.dataLim.ymin >= 0:
            axis.set_ylim(0, 1.05 * axis.get_ylim()[1])
        axis.grid(alpha=0.25)
        axis.spines[['top', 'right']].set_visible(False)
    legend_beside(figure, lines, 8)
    return draw_figure(figure)
