"""Colour: kornia in batches against torchvision image by image.

Check 16 of CMIM in part (the rest is in test_preprocessor.py): the two
implementations of the family C mean the same.
"""

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchvision.transforms import functional as TF  # noqa: N812

from mmmedmask.functional.views import COLOR_DRAWS, ColorFamily, Colors
from mmmedmask.models.layers import color

from .tiny import draw_tile

STEPS = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation,
         TF.adjust_hue)
# In gray levels: what rounding to 8 bits after every step adds up to.
ONE_STEP, ALL_STEPS = 1.6, 9.


def parameters(count, kinds=(), factor=None, gray=False, sigma=None,
               jitter=True):
    """Colour parameters of ``count`` images, the same for each."""
    factors = torch.tensor([[1., 1., 1., 0.]]).double().repeat(count, 1)
    for kind in kinds:
        factors[:, kind] = factor
    flags = torch.ones(count, dtype=torch.bool)
    return Colors(
        jitter=flags & jitter, factors=factors,
        order=torch.arange(4).repeat(count, 1), gray=flags & gray,
        blur=flags & (sigma is not None),
        sigma=torch.full((count, ), sigma or 1., dtype=torch.float64))


def tiles(count=4, channels=3, size=(24, 32)):
    pixels = torch.stack([
        draw_tile(index, size, channels) for index in range(count)])
    return pixels.float() / 255


def levels_apart(one, other):
    return float((one - other).abs().max()) * 255


def both(images, colors):
    """What kornia, and what torchvision makes of images."""
    return (color.augment_colors_kornia(images, colors, 2.),
            color.augment_colors_torchvision(images, colors))


@pytest.mark.parametrize(('kind', 'factor'), [(0, .6), (0, 1.4), (1, .6),
                                              (1, 1.4), (2, .6), (2, 1.4),
                                              (2, 0.), (3, .1), (3, -.1)])
def test_each_jitter_step_is_the_same(kind, factor):
    images = tiles()
    ours, theirs = both(images, parameters(4, [kind], factor))
    assert levels_apart(ours, images) > 5
    # Hue goes through 8-bit HSV only in one of them.
    assert levels_apart(ours, theirs) < (3.5 if kind == 3 else ONE_STEP)


def test_gray_is_the_same_and_gray():
    ours, theirs = both(tiles(), parameters(4, jitter=False, gray=True))
    assert levels_apart(ours, theirs) < ONE_STEP
    for output in (ours, theirs):
        assert torch.equal(output[:, 0], output[:, 1])
        assert torch.equal(output[:, 0], output[:, 2])


@pytest.mark.parametrize('sigma', [.3, 1., 2.])
@pytest.mark.parametrize('channels', [1, 3])
def test_blur_is_the_same(sigma, channels):
    images = tiles(channels=channels)
    ours, theirs = both(images, parameters(4, jitter=False, sigma=sigma))
    assert theirs.shape == images.shape
    assert levels_apart(ours, theirs) < ONE_STEP


def test_blur_equals_scipys():
    images = torch.rand(2, 2, 6, 9, dtype=torch.float64)
    sigma = torch.tensor([.5, 1.5], dtype=torch.float64)
    got = color.gaussian_blur(images, sigma, 1.5)
    for blurred, image, width in zip(got, images, sigma, strict=True):
        want = gaussian_filter(image.numpy(), width.item(), axes=(1, 2),
                               mode='nearest', radius=round(3 * 1.5))
        torch.testing.assert_close(blurred, torch.from_numpy(want), rtol=0,
                                   atol=1e-12)


@pytest.mark.parametrize('order', [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_steps_are_taken_in_each_images_order(order):
    """Image 0 in the given order, image 1 in another one."""
    images = tiles(2)
    colors = parameters(2, [0, 1, 2], 1.4)
    colors.factors[:, 3] = .1
    colors.order[0] = torch.tensor(order)
    colors.order[1] = torch.tensor((2, 0, 3, 1))
    for together in both(images, colors):
        for index in range(2):
            want = (images[index] * 255).round().byte()
            for kind in colors.order[index].tolist():
                want = STEPS[kind](want, float(colors.factors[index, kind]))
            assert levels_apart(together[index],
                                want.float() / 255) < ALL_STEPS


def test_whole_family_is_the_same():
    """Everything together, drawn as in training."""
    uniform = torch.rand(48, COLOR_DRAWS,
                         generator=torch.Generator().manual_seed(0),
                         dtype=torch.float64)
    colors = ColorFamily().draw(uniform)
    images = tiles(48)
    ours, theirs = both(images, colors)
    difference = (ours - theirs).abs() * 255
    assert float(difference.mean()) < 2
    assert float(difference.flatten(1).quantile(.99, dim=1).max()) < ALL_STEPS
    # In 8 bits saturated colours lose their hue, so the worst pixel may be
    # further off; the augmentation itself is far larger.
    assert float((ours - images).abs().mean()) * 255 > 15


augmented = pytest.mark.parametrize(
    'augment', [lambda *args: color.augment_colors_kornia(*args, 2.),
                color.augment_colors_torchvision],
    ids=['kornia', 'torchvision'])


@augmented
def test_unchosen_images_and_inputs_stay(augment):
    images = tiles()
    before = images.clone()
    colors = parameters(4, [0, 1, 2], 1.3, gray=True, sigma=1.)
    for flags in (colors.jitter, colors.gray, colors.blur):
        flags[1] = flags[3] = False
    output = augment(images, colors)
    assert torch.equal(images, before)
    torch.testing.assert_close(output[[1, 3]], images[[1, 3]])
    assert levels_apart(output[0], images[0]) > 5
    assert levels_apart(output[2], images[2]) > 5


@augmented
def test_batch_mates_do_not_matter(augment):
    uniform = torch.rand(6, COLOR_DRAWS, dtype=torch.float64)
    images = tiles(6)
    together = augment(images, ColorFamily().draw(uniform))
    for index in range(6):
        alone = augment(images[index:index + 1],
                        ColorFamily().draw(uniform[index:index + 1]))
        assert torch.equal(alone[0], together[index])


@augmented
def test_one_channel_has_brightness_contrast_and_blur(augment):
    images = tiles(channels=1)
    output = augment(images, parameters(4, [0, 1], 1.3, sigma=1.))
    assert output.shape == images.shape
    assert levels_apart(output, images) > 5
    assert 0 <= output.min()
    assert output.max() <= 1


def test_five_channels_have_brightness_contrast_and_blur():
    images = tiles(channels=5)
    output = color.augment_colors_kornia(
        images, parameters(4, [0, 1], 1.3, sigma=1.), 2.)
    want = (images * 1.3).clamp(0, 1)
    mean = want.mean(dim=(1, 2, 3), keepdim=True)
    want = (want * 1.3 - mean * .3).clamp(0, 1)
    want = color.gaussian_blur(want, torch.full((4, ), 1.), 2.)
    torch.testing.assert_close(output, want, rtol=0, atol=1e-5)
