"""Curves: reading logs, running means, and that something is drawn."""

import json

import numpy as np
import pytest

from mmmedmask.visualization import curves
from mmmedmask.visualization.curves import draw_curves, read_scalars, smooth


def test_reads_all_runs_of_a_work_dir_in_order(tmp_path):
    for name, steps in (('20250101_000000', (1, 2)),
                        ('20250101_000005', (3, 5)),
                        # Goes on from an earlier step.
                        ('20250101_000009', (3, 4))):
        folder = tmp_path / name / 'vis_data'
        folder.mkdir(parents=True)
        rows = [dict(step=step, loss=10 / step) for step in steps]
        rows.append(dict(step=steps[-1], accuracy=1.0))
        (folder / 'scalars.json').write_text(
            '\n'.join(json.dumps(row) for row in rows))
    assert read_scalars(tmp_path, 'loss') == [
        (1, 10), (2, 5), (3, 10 / 3), (4, 2.5)]
    # The last line is cut where a run was killed.
    with (folder / 'scalars.json').open('a') as file:
        file.write('\n{"step": 4, "loss": 2')
    assert read_scalars(tmp_path / '20250101_000009', 'loss') == [
        (3, 10 / 3), (4, 2.5)]
    with pytest.raises(FileNotFoundError, match=f'{tmp_path}/other'):
        read_scalars(tmp_path / 'other', 'loss')


def test_a_run_that_cannot_be_read_is_named(tmp_path, lock_folder):
    for run in ('a', 'locked'):
        log = tmp_path / run / 'vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text('{"loss": 1.0, "step": 1}\n')
    assert read_scalars(tmp_path, 'loss') == [(1, 1)]
    lock_folder(tmp_path / 'locked')
    with pytest.raises(PermissionError, match='locked'):
        read_scalars(tmp_path, 'loss')


@pytest.mark.parametrize('window', [1, 3, 50])
def test_running_mean_equals_a_loop(window):
    values = np.random.default_rng(0).normal(size=20)
    expected = [
        values[max(0, end - window):end].mean() for end in range(1, 21)]
    np.testing.assert_allclose(smooth(values, window), expected)


def test_curves_differ_in_the_picture():
    falling = [(step, 1 / step) for step in range(1, 20)]
    flat = [(step, 0.5) for step in range(1, 20)]
    one = draw_curves({'loss': falling})
    assert one.dtype == np.uint8
    assert (one != draw_curves({'loss': flat})).any()
    two = draw_curves({'loss': falling, 'other': flat}, window=5)
    assert two.shape[1] > one.shape[1]


def test_references_and_marks_are_drawn():
    rising = [(step, step / 10) for step in range(1, 9)]
    plain = draw_curves({'hits': rising})
    marked = draw_curves({'hits': rising}, mark_points=True)
    with_chance = draw_curves({'hits': rising},
                              references={'hits': {'chance': .5}})
    assert (marked != plain).any()
    # A dashed line from end to end, in gray, in the middle of the range.
    gray = (np.abs(with_chance.astype(int) - 0x55) < 8).all(axis=2)
    row = gray.sum(axis=1).argmax()
    assert gray[row].sum() > with_chance.shape[1] / 3
    assert 0.3 < row / with_chance.shape[0] < 0.6
    one_point = draw_curves({'hits': rising[:1]}, mark_points=True)
    assert (one_point != draw_curves({'hits': rising[:1]})).any()


@pytest.fixture
def figures(monkeypatch):
    """Figures that are drawn."""
    drawn = []
    monkeypatch.setattr(curves, 'draw_figure', drawn.append)
    return drawn


@pytest.mark.parametrize(('values', 'reference', 'window', 'low', 'high'), [
    ([-1, -2, -3], None, 1, -3, -1), ([1, -2, -3], None, 1, -3, 1),
    # The running mean stays above 0.
    ([9, -1, 9, 9], None, 4, -1, 9), ([1, 2], -4, 1, -4, 2),
    ([2, 3], 1, 1, 0, 3), ([float('nan'), 3], None, 1, 0, 3)])
def test_no_value_is_hidden(figures, values, reference, window, low, high):
    references = {} if reference is None else {'a': {'floor': reference}}
    draw_curves({'a': list(enumerate(values))}, window=window,
                references=references)
    bottom, top = figures[0].axes[0].get_ylim()
    assert bottom <= low
    assert top >= high
    if low == 0:
        assert bottom == 0


def test_each_reference_has_a_name(figures):
    """A name has one style on all axes, and one line in the legend."""
    rising = [(0, 10), (1, 90)]
    draw_curves({'a': rising, 'b': rising}, y_label='points', references={
        'a': {'colour': 70, 'chance': 50}, 'b': {'chance': 25}})
    figure, = figures
    legend, = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        'colour', 'chance']
    first, second = figure.axes
    styles = [[line.get_linestyle() for line in axis.lines[1:]]
              for axis in (first, second)]
    assert styles == [['--', ':'], [':']]
    assert [line.get_linestyle() for line in legend.get_lines()] == styles[0]
    assert first.get_ylabel() == 'points'
    figure.draw_without_rendering()
    assert not legend.get_window_extent().count_overlaps(
        [axis.get_tightbbox() for axis in figure.axes])


def test_what_cannot_be_drawn():
    with pytest.raises(ValueError, match=r"\['miss'\] need a curve each"):
        draw_curves({'hits': [(0, 1)]}, references={'miss': {'chance': .5}})
    for nothing in ({}, {'loss': []}):
        with pytest.raises(ValueError, match='nothing to draw'):
            draw_curves(nothing)
