"""Scores as dots: a panel per column, a line for each floor."""

import pytest

from mmmedmask.visualization import score_dots
from mmmedmask.visualization.score_dots import draw_score_dots

SCORES = {'accuracy': {'method': [70., 72., 71.], 'random': [50., 52., 51.],
                       'colour': [60.]},
          'area under the curve': {'method': [90., 91., 89.]}}


def test_each_floor_has_a_line_and_a_name(monkeypatch):
    figures = []
    monkeypatch.setattr(score_dots, 'draw_figure', figures.append)
    draw_score_dots(SCORES)
    draw_score_dots(SCORES, ['random', 'colour', 'absent'])
    plain, figure = figures
    assert not plain.legends
    legend, = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        'random', 'colour']
    # Behind the interval, the mean and the dots of each row; the area has no
    # score of both.
    accuracy, area = (
        panel.lines[3 * len(rows):] for panel, rows in
        zip(figure.axes, SCORES.values(), strict=True))
    assert not area
    assert [line.get_xdata()[0] for line in accuracy] == [51, 60]
    for line, shown in zip(accuracy, legend.get_lines(), strict=True):
        assert line.get_linestyle() == shown.get_linestyle()
    figure.draw_without_rendering()
    assert not legend.get_window_extent().count_overlaps(
        [panel.get_tightbbox() for panel in figure.axes])


def test_columns_without_a_score_are_left_out():
    assert draw_score_dots(SCORES | {'more': {}}).shape == draw_score_dots(
        SCORES).shape
    with pytest.raises(ValueError, match='no row has a score'):
        draw_score_dots({'accuracy': {}})
