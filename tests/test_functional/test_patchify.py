"""Patches and their positions against loops (checks 12 and 14)."""

import math

import pytest
import torch
from mmpretrain.models.heads import SparKPretrainHead

from mmmedmask.functional.patchify import (
    patchify,
    sincos_position_embedding,
    unpatchify,
)


@pytest.mark.parametrize('size', [(8, 8), (8, 12)])
@pytest.mark.parametrize('channels', [1, 3, 5])
def test_patchify_equals_a_loop(size, channels):
    images = torch.rand(2, channels, *size)
    patches = patchify(images, 4)
    assert patches.shape == (2, size[0] * size[1] // 16, 16 * channels)
    for image, rows in zip(images, patches, strict=True):
        number = 0
        for top in range(0, size[0], 4):
            for left in range(0, size[1], 4):
                want = [float(image[channel, top + row, left + column])
                        for row in range(4) for column in range(4)
                        for channel in range(channels)]
                assert rows[number].tolist() == want
                number += 1


def test_patchify_has_sparks_order():
    """Check 12: the layout that SparK's head uses."""
    head = SparKPretrainHead(
        loss=dict(type='PixelReconstructionLoss', criterion='L2'),
        patch_size=8)
    images = torch.rand(2, 3, 16, 24)
    assert torch.equal(patchify(images, 8), head.patchify(images))


@pytest.mark.parametrize('size', [(8, 8), (4, 12)])
def test_unpatchify_undoes_patchify(size):
    images = torch.rand(2, 3, *size)
    grid_size = (size[0] // 4, size[1] // 4)
    assert torch.equal(unpatchify(patchify(images, 4), 4, grid_size), images)


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match=r'5\) .*\(16, 12\)'):
        patchify(torch.rand(1, 3, 16, 12), 5)
    with pytest.raises(ValueError, match=r'\(2, 3\) holds 6 patches, got 4'):
        unpatchify(torch.rand(1, 4, 48), 4, (2, 3))
    with pytest.raises(ValueError, match='length 50'):
        unpatchify(torch.rand(1, 4, 50), 4, (2, 2))
    with pytest.raises(ValueError, match='4, got 10'):
        sincos_position_embedding((2, 2), 10)


@pytest.mark.parametrize('grid_size', [(3, 3), (2, 5)])
def test_positions_equal_a_loop(grid_size):
    embedding = sincos_position_embedding(grid_size, 16)
    assert embedding.shape == (1, grid_size[0] * grid_size[1], 16)
    for row in range(grid_size[0]):
        for column in range(grid_size[1]):
            want = []
            for position in (row, column):
                angles = [position / 10000**(i / 4) for i in range(4)]
                want += [math.sin(angle) for angle in angles]
                want += [math.cos(angle) for angle in angles]
            got = embedding[0, row * grid_size[1] + column]
            torch.testing.assert_close(
                got, torch.tensor(want), rtol=0, atol=1e-6)


def test_rows_share_their_half_and_columns_theirs():
    """Check 14: row-major positions on a grid that is not square."""
    rows, columns = 3, 5
    embedding = sincos_position_embedding((rows, columns), 32)
    embedding = embedding.view(rows, columns, 32)
    for row in range(rows):
        assert torch.equal(embedding[row, :, :16],
                           embedding[row, :1, :16].expand(columns, 16))
    for column in range(columns):
        assert torch.equal(embedding[:, column, 16:],
                           embedding[:1, column, 16:].expand(rows, 16))
    assert len(torch.unique(embedding.view(-1, 32), dim=0)) == rows * columns
