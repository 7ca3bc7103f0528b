"""A picture of a confusion matrix."""

from collections.abc import Sequence

import numpy as np

from mmmedmask.util.checks import check_shape
from mmmedmask.visualization.pictures import draw_figure


def draw_confusion_matrix(counts: np.ndarray, classes: Sequence[str],
                          title: str = '') -> np.ndarray:
    """Draw how often each class was taken for each other one, RGB (H, W, 3).

    Rows of ``counts`` (C, C) are true classes, columns predicted ones. The
    colour is the share of the row, so that rare classes are as visible.
    """
    counts = np.asarray(counts)
    number = len(classes)
    check_shape(f'the matrix of {number} classes', counts, (number, number))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.6 * number
    from matplotlib.figure import Figure
    figure = Figure((side, side), dpi=120)
    axis = figure.subplots()
    axis.imshow(shares, cmap='Purples', vmin=0, vmax=1)
    for row in range(number):
        for column in range(number):
            axis.text(column, row, str(counts[row, column]), ha='center',
                      va='center', fontsize=9,
                      color='white' if shares[row, column] > 0.5 else 'black')
    ticks = range(number)
    axis.set_xticks(ticks, classes, rotation=45, ha='right', fontsize=9)
    axis.set_yticks(ticks, classes, fontsize=9)
    axis.set_xlabel('predicted', fontsize=9)
    axis.set_ylabel('true', fontsize=9)
    axis.set_title(title, fontsize=10, loc='left')
    figure.tight_layout()
    return draw_figure(figure)
