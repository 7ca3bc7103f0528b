"""Attention panels: which pixel shows which cell, and what lies over it."""

import matplotlib
import numpy as np
import pytest
import torch

from mmmedmask.functional.attention_masking import TokenPartition
from mmmedmask.visualization import PictureUnits, attention_columns, draw_grid
from mmmedmask.visualization.attention_pictures import (
    HATCH_COLOR,
    MAP_SHARE,
    THROWN_COLOR,
    cover_partition,
    enlarge_cells,
    outline_lesions,
    overlay_map,
)
from mmmedmask.visualization.reconstruction import MASK_COLOR, OUTLINE_COLOR

UNITS = PictureUnits((120.0, ) * 3, (40.0, ) * 3)


def drawn_images(batch_size=2, channels=3, size=(16, 24)):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch_size, channels, *size, generator=generator)


@pytest.fixture
def partition():
    """Of 2 x 3 tokens: two images, 2 masked, 1 thrown, 3 visible."""
    return TokenPartition(
        torch.tensor([[0, 5], [1, 2]]), torch.tensor([[3], [4]]),
        torch.tensor([[1, 2, 4], [0, 3, 5]]))


@pytest.mark.parametrize(('grid', 'size'), [
    ((2, 3), (16, 24)), ((4, 2), (4, 2)), ((3, 7), (16, 24))])
def test_pixels_show_the_cell_that_they_are_in(grid, size):
    cells = np.arange(2 * grid[0] * grid[1]).reshape(2, *grid)
    enlarged = enlarge_cells(cells, size)
    assert enlarged.shape == (2, *size)
    for image, row, column in np.ndindex(enlarged.shape):
        cell = (int((row + 0.5) / size[0] * grid[0]),
                int((column + 0.5) / size[1] * grid[1]))
        assert enlarged[image, row, column] == cells[(image, *cell)]


def test_colours_of_attention():
    """0 is black and the maximum yellow, whatever the maximum is."""
    maps = torch.tensor([[[0.0, 0.25, 1.0], [0.52, 0.75, 0.12]],
                         [[0.02, 0.0, 0.0108], [0.0, 0.005, 0.0024]],
                         [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    pictures = UNITS.to_pictures(drawn_images(3))
    before = pictures.copy()
    shown = overlay_map(pictures, maps)
    assert (pictures == before).all()
    for image, highest in enumerate((1.0, 0.02, 1.0)):
        for row, column in np.ndindex(16, 24):
            level = maps[image, row // 8, column // 8].item() / highest
            color = matplotlib.colormaps['inferno'](round(level * 255))[:3]
            pixel = pictures[image, row, column]
            gray = pixel @ [0.299, 0.587, 0.114]
            expected = (MAP_SHARE * 255 * np.array(color) +
                        (1 - MAP_SHARE) * gray)
            assert np.abs(expected - shown[image, row, column]).max() < 1.5
    # More attention is brighter, whatever is below.
    bright = shown[0].mean(axis=-1)
    assert bright[:8, 16:].min() > bright[:8, :8].max()


def test_masked_is_covered_and_thrown_is_hatched(partition):
    pictures = UNITS.to_pictures(drawn_images())
    before = pictures.copy()
    flags = partition.flags().reshape(2, 2, 3).numpy()
    shown = cover_partition(pictures, flags)
    assert (pictures == before).all()
    hatched = {tuple(HATCH_COLOR), tuple(THROWN_COLOR)}
    for image in range(2):
        for row, column in np.ndindex(2, 3):
            where = (image, slice(8 * row, 8 * row + 8),
                     slice(8 * column, 8 * column + 8))
            flag = flags[image, row, column]
            if flag == 1:
                assert (shown[where] == MASK_COLOR).all()
            elif flag == -1:
                colors = {tuple(c) for c in shown[where].reshape(-1, 3)}
                assert colors == hatched
            else:
                assert (shown[where] == pictures[where]).all()


def test_lesions_are_outlined_from_outside():
    pictures = UNITS.to_pictures(drawn_images())
    lesion = np.zeros((16, 24), bool)
    lesion[3:7, 20:] = True
    shown = outline_lesions(pictures, [lesion, None])
    assert (shown[1] == pictures[1]).all()
    green = (shown[0] == OUTLINE_COLOR).all(axis=-1)
    expected = np.zeros_like(green)
    expected[2:8, 19:] = True
    expected[3:7, 20:] = False
    assert (green == expected).all()
    assert (shown[0][~green] == pictures[0][~green]).all()
    with pytest.raises(ValueError, match=r'\(16, 24\), got \(8, 24\)'):
        outline_lesions(pictures, [lesion[:8], None])


def test_columns_show_what_they_say(partition):
    images, maps = drawn_images(), torch.rand(2, 2, 3)
    lesion = np.zeros((16, 24), bool)
    lesion[4:6, 4:6] = True
    drawn = images.clone()
    drawn[0, :, :8, :8] = 0.0  # The first image's first masked patch.
    columns = {column.title: column for column in attention_columns(
        images, maps, partition, UNITS, [None, lesion], drawn)}
    assert list(columns) == ['Image', 'Attention', 'Masking',
                             'Reconstruction', 'Filled in']
    pictures = UNITS.to_pictures(images)
    assert (columns['Image'].pictures[0] == pictures[0]).all()
    assert (columns['Image'].pictures[1] != pictures[1]).any()
    filled = columns['Filled in'].pictures
    assert (filled[0, :8, :8] == 120).all()
    assert (filled[1] == pictures[1]).all()
    rebuilt = columns['Reconstruction'].pictures
    assert (rebuilt[0, :8, :8] == 120).all()
    assert (rebuilt[0, 8:, :8] != pictures[0, 8:, :8]).any()
    assert (rebuilt[0, :8, 8:] == pictures[0, :8, 8:]).all()
    note = columns['Masking'].subtitle
    assert all(text in note for text in ('33 %', '17 %', '50 %'))
    with pytest.raises(ValueError, match=r'6 tokens.*\(4, 3\)'):
        attention_columns(images, torch.rand(2, 4, 3), partition, UNITS)


def test_without_decoder_lesions_and_thrown_patches(partition):
    everything = TokenPartition(partition.masked[:, :0],
                                partition.thrown[:, :0],
                                torch.arange(6).expand(2, 6))
    images = drawn_images()
    columns = attention_columns(images, torch.rand(2, 2, 3), everything, UNITS)
    assert [column.title for column in columns
            ] == ['Image', 'Attention', 'Masking']
    for column in (columns[0], columns[2]):
        assert (column.pictures == UNITS.to_pictures(images)).all()
    assert 'hatched' not in columns[2].subtitle


@pytest.mark.parametrize(('channels', 'shown'), [(1, None), (5, (4, 0, 2))])
def test_attention_panel_of_other_channels(partition, channels, shown):
    units = PictureUnits((120.0, ) * channels, (40.0, ) * channels,
                         channels=shown)
    images = drawn_images(channels=channels)
    columns = attention_columns(
        images, torch.rand(2, 2, 3), partition, units, reconstruction=images)
    panel = draw_grid(columns, 'Test', 32, ('one', 'two'))
    assert panel.dtype == np.uint8
    assert panel.ndim == 3
    # Two masked patches of 8 x 8 pixels in two images, enlarged by 2.
    assert (panel == MASK_COLOR).all(axis=2).sum() == 4 * 16 * 16
