"""Some patches of each image, out and in again, against loops."""

import pytest
import torch

from mmmedmask.functional.patchify import gather_patches, scatter_patches


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


def test_patches_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r'\(4, 5\)'):
        gather_patches(torch.rand(1, 1, 8, 12), torch.zeros(1, 1).long(),
                       (4, 5))
