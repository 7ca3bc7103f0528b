"""Patch masks: how many, which, and at which resolution (check 8)."""

from fractions import Fraction

import pytest
import torch

from mmmedmask.functional import masking


@pytest.mark.parametrize('num_patches', [1, 4, 9, 16, 49, 64, 196])
def test_count_is_the_rounded_share_of_visible_patches(num_patches):
    """Check 8: of 49 at 0.7, 34 are masked and 15 visible."""
    for percent in range(0, 101, 5):
        visible = num_patches * Fraction(100 - percent, 100)
        if visible % 1 == Fraction(1, 2):
            continue  # a tie: either is right
        want = num_patches - int(visible + Fraction(1, 2))
        assert masking.num_masked_patches(num_patches, percent / 100) == want


@pytest.mark.parametrize('ratio', [-0.01, 1.01, float('nan')])
def test_ratio_outside_its_range_is_refused(ratio):
    with pytest.raises(ValueError, match=str(ratio)):
        masking.num_masked_patches(49, ratio)


@pytest.mark.parametrize('size', [(7, 7), (4, 6), (1, 8)])
@pytest.mark.parametrize('ratio', [.1, .5, .7, .9])
def test_mask_is_exact_binary_and_of_the_smallest_noise(size, ratio):
    noise = torch.rand(8, *size, dtype=torch.float64)
    mask = masking.random_patch_mask(noise, ratio)
    assert mask.shape == (8, 1, *size)
    assert mask.dtype == torch.float32
    assert set(mask.unique().tolist()) <= {0., 1.}
    count = masking.num_masked_patches(size[0] * size[1], ratio)
    for image, values in zip(mask, noise, strict=True):
        assert int(image.sum()) == count
        chosen = image[0].bool()
        if 0 < count < chosen.numel():
            assert values[chosen].max() < values[~chosen].min()


@pytest.mark.parametrize('size', [(7, 7), (14, 28), (224, 224)])
def test_resized_mask_repeats_every_patch(size):
    mask = torch.rand(3, 1, 7, 7).round()
    want = mask.repeat_interleave(size[0] // 7, dim=2).repeat_interleave(
            size[1] // 7, dim=3)
    assert torch.equal(masking.resize_mask(mask, size), want)


@pytest.mark.parametrize('size', [(4, 4), (7, 10), (8, 7)])
def test_blocks_of_unequal_size_are_refused(size):
    with pytest.raises(ValueError, match=rf'\({size[0]}, {size[1]}\)'):
        masking.resize_mask(torch.zeros(1, 1, 7, 7), size)


def test_blank_patches_equal_loops():
    """Flat in every channel, up to 0.05; a step or one colour is not."""
    images = torch.full((3, 2, 6, 8), 0.7)
    images[0, :, :3, :4] += 0.04 * (torch.arange(4) % 2)
    images[1, 1, 3:, 4:] += torch.arange(4.0)
    images[2] = torch.rand(2, 6, 8, generator=torch.Generator().manual_seed(0))
    got = masking.blank_patches(images, (3, 4))
    for image, row in zip(images.double(), got, strict=True):
        for place, flat in enumerate(row.tolist()):
            top, left = 3 * (place // 2), 4 * (place % 2)
            deviations = [
                float((((channel - channel.sum() / 12)**2).sum() / 12)**.5)
                for channel in image[:, top:top + 3, left:left + 4]]
            assert flat == (max(deviations) <= 0.05)
    assert got.tolist() == [[True] * 4, [True] * 3 + [False], [False] * 4]
