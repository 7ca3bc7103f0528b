"""Patches and their positions against loops (checks 12 and 14)."""

import math
from itertools import product

import pytest
import torch
from mmpretrain.models.heads import SparKPretrainHead

from mmmedmask.functional.patchify import (
    gather_patches,
    patchify,
    scatter_patches,
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
        corners = product(range(0, size[0], 4), range(0, size[1], 4))
        for patch, (top, left) in zip(rows, corners, strict=True):
            assert patch.tolist() == [
                float(image[channel, top + row, left + column])
                for row, column, channel in product(
                    range(4), range(4), range(channels))]


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


@pytest.mark.parametrize('channels', [1, 3, 5])
def test_gather_equals_loops(channels):
    images = torch.rand(2, channels, 8, 18)
    ids = torch.tensor([[0, 3, 11], [7, 5, 5]])
    patches = gather_patches(images, ids, (2, 6))
    assert patches.shape == (2, 3, channels, 2, 6)
    for image in range(2):
        for place, number in enumerate(ids[image].tolist()):
            top, left = number // 3 * 2, number % 3 * 6
            want = images[image, :, top:top + 2, left:left + 6]
            assert torch.equal(patches[image, place], want)


def test_scatter_undoes_gather_and_leaves_the_rest():
    images, others = torch.rand(2, 3, 8, 12), torch.rand(2, 3, 8, 12)
    ids = torch.tensor([[1, 4], [0, 5]])
    mixed = scatter_patches(images, ids, gather_patches(others, ids, (4, 4)))
    for image in range(2):
        for number in range(6):
            top, left = number // 3 * 4, number % 3 * 4
            source = others if number in ids[image].tolist() else images
            assert torch.equal(mixed[image, :, top:top + 4, left:left + 4],
                               source[image, :, top:top + 4, left:left + 4])


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match=r'\(4, 5\)'):
        gather_patches(torch.rand(1, 1, 8, 12), torch.zeros(1, 1).long(),
                       (4, 5))
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
    """Check 14: row-major also on a grid that is not square."""
    embedding = sincos_position_embedding(grid_size, 16)
    assert embedding.shape == (1, grid_size[0] * grid_size[1], 16)
    for got, place in zip(embedding[0], product(*map(range, grid_size)),
                          strict=True):
        angles = [[position / 10000**(i / 4) for i in range(4)]
                  for position in place]
        want = [function(angle) for of_axis in angles
                for function in (math.sin, math.cos) for angle in of_axis]
        torch.testing.assert_close(got, torch.tensor(want), rtol=0, atol=1e-6)
