"""Scores as dots: a panel per column, a line for each floor."""

import numpy as np
import pytest

from mmmedmask.visualization.score_dots import draw_score_dots

SCORES = {'accuracy': {'method': [70., 72., 71.], 'random': [50., 52., 51.],
                       'colour': [60.]},
          'area under the curve': {'method': [90., 91., 89.]}}


def floor_lines(references):
    """Columns of the picture that change with the floors."""
    without, picture = (draw_score_dots(SCORES, names)
                        for names in ((), references))
    return np.flatnonzero((picture != without).any(axis=(0, 2)))


def test_each_floor_has_a_line():
    one, two = floor_lines(['random']), floor_lines(['random', 'colour'])
    # A line is one pixel wide, or two; the area has no score of both.
    assert 1 <= len(one) <= 3
    assert set(one) < set(two)
    assert len(two) <= 6
    # The colour's 60 is to the right of the 51 of random weights.
    assert max(two) > max(one) + 10


def test_columns_without_a_score_are_left_out():
    assert draw_score_dots(SCORES | {'more': {}}).shape == draw_score_dots(
        SCORES).shape
    with pytest.raises(ValueError, match='no row has a score'):
        draw_score_dots({'accuracy': {}})
