"""Grids of pictures: every cell is where its column and row say."""

import numpy as np
import pytest

from mmmedmask.visualization import Column, draw_grid
from mmmedmask.visualization.grid import (
    GAP,
    MARGIN,
    _shorten,
    enlarge,
    stack,
)


def flat(color, size=(8, 8)):
    return np.full((*size, 3), color, np.uint8)


def test_cells_are_in_order_and_unchanged():
    colors = [[(200, 0, 0), (0, 200, 0)], [(0, 0, 200), (90, 90, 0)],
              [(0, 90, 90), (90, 0, 90)]]
    columns = [Column(f'title {i}', 'explanation', [flat(c) for c in column])
               for i, column in enumerate(colors)]
    sheet = draw_grid(columns, heading='Heading', min_side=40)
    centres = {}
    for i, column in enumerate(colors):
        for j, color in enumerate(column):
            places = np.argwhere((sheet == color).all(axis=2))
            # Enlarged by 5, and not a pixel is covered.
            assert len(places) == 40 * 40
            centres[i, j] = places.mean(axis=0)
    for i in range(3):
        assert centres[i, 0][1] == centres[i, 1][1]
        assert centres[i, 0][0] < centres[i, 1][0]
    for j in range(2):
        assert (centres[0, j][1] < centres[1, j][1] < centres[2, j][1])
        assert centres[0, j][0] == centres[2, j][0]


def test_titles_are_written_and_fit():
    pictures = [flat(255, (64, 64))]
    plain = draw_grid([Column('', '', pictures)] * 2, min_side=64)
    assert (plain == 255).all()
    long = 'a long explanation that does not fit into one line'
    titled = draw_grid([Column('One', long, pictures)] * 2, min_side=64,
                       heading='A heading', row_titles=['first row'])
    assert titled.shape[0] > plain.shape[0]
    ink = np.argwhere((titled < 200).all(axis=2))
    assert len(ink) > 200
    # Nothing is cut off at the frame.
    assert ink.min() >= MARGIN - 2
    assert (ink.max(axis=0) <= np.array(titled.shape[:2]) - MARGIN + 2).all()


def ink(*titles, row_titles=()):
    """Where a grid has ink of titles: rows and columns of pixels (N, 2)."""
    return np.argwhere((draw_grid(
        [Column(title, '', [flat(255, (128, 128))]) for title in titles],
        row_titles=row_titles) < 200).all(axis=2))


def test_a_long_word_stays_above_its_picture():
    for word in ('Adenocarcinoma_moderately_differentiated', 60 * 'M'):
        titled = ink('', word, '')
        assert titled[:, 1].min() >= MARGIN + 128
        assert titled[:, 1].max() < MARGIN + 2 * (128 + GAP)
        # In several lines, with all of its letters.
        assert len(titled) > 1.8 * len(ink('', word[:len(word) // 2], ''))


def test_a_row_title_loses_the_middle_of_the_file_before_its_class():
    name = 'TCGA-3C-AAAU-01Z-00-DX1.2F52DB63-7476-4E85-B7C6_x1234_y5678.png'
    kind = 'adenocarcinoma, moderately differentiated'
    shown = _shorten(f'{name}: {kind}', 12, 400)
    head, tail = shown.removesuffix(f': {kind}').split('…')
    assert len(head) > 5
    assert name.startswith(head)
    assert name.endswith(tail)
    assert _shorten('a.png: b', 12, 400) == 'a.png: b'
    # A class that does not fit with a short name takes several lines.
    for columns in (1, 3):
        below = ink(*columns * [''], row_titles=[f'{name}: {kind}'])
        assert below[:, 1].max() < MARGIN + columns * (128 + GAP)
        assert np.ptp(below[:, 0]) > (40 if columns == 1 else 8)


@pytest.mark.parametrize(('side', 'min_side', 'factor'), [
    (64, 150, 2), (64, 180, 3), (224, 150, 1), (96, 40, 1), (32, 150, 5)])
def test_pictures_grow_by_whole_factors(side, min_side, factor):
    picture = np.random.default_rng(0).integers(
        0, 256, (side, side, 3), np.uint8)
    expected = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    assert (enlarge(picture, min_side) == expected).all()


@pytest.mark.parametrize(('columns', 'arguments', 'message'), [
    ([[flat(0)], []], {}, r'\[1, 0\]'), ([[]], {}, r'\[0\]'),
    ([[flat(0)], [flat(0, (8, 9))]], {}, r'\(8, 9, 3\)'),
    ([[flat(0)[..., 0]]], {}, r'\(H, W, 3\)'),
    ([[flat(0)]], dict(row_titles=['a', 'b']), '2 row titles for 1 rows')])
def test_what_is_not_a_grid(columns, arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_grid([Column('', '', pictures) for pictures in columns],
                  **arguments)


def test_stacked_pictures_keep_their_pixels():
    one, two = flat(10, (3, 7)), flat(20, (5, 4))
    stacked = stack([one, two])
    assert stacked.shape == (8, 7, 3)
    assert (stacked[:3] == one).all()
    assert (stacked[3:, :4] == two).all()
    assert (stacked[3:, 4:] == 255).all()
