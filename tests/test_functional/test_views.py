"""Random views and colours against torchvision's definitions.

Checks 8 (how much of a view the other shows) and 14 (circles stay round).
"""

import itertools
import math

import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from mmmedmask.functional.affine import relative_theta
from mmmedmask.functional.masking import random_patch_mask
from mmmedmask.functional.views import (
    AFFINE_DRAWS,
    COLOR_DRAWS,
    CROP_ATTEMPTS,
    CROP_DRAWS,
    VIEW_DRAWS,
    ColorFamily,
    ViewFamily,
    draw_view,
    split_view_draws,
    union_crops,
)
from mmmedmask.functional.warp import inside_frame, warp_mask

from .test_affine import apply


def uniform(count, length, seed=0):
    return torch.rand(count, length,
                      generator=torch.Generator().manual_seed(seed),
                      dtype=torch.float64)


def draw(count, size, view_size=(32, 32), seed=0, **family):
    """Crops and matrices of random views."""
    return draw_view(uniform(count, CROP_DRAWS + AFFINE_DRAWS, seed), size,
                     view_size, ViewFamily(**family))


def naive_crop(numbers, size, scale, ratio):
    """RandomResizedCrop's rules, one image, numbers one after the other."""
    height, width = size
    numbers = iter(numbers.tolist())
    box = None
    for _ in range(CROP_ATTEMPTS):
        area = height * width * (scale[0] + next(numbers) *
                                 (scale[1] - scale[0]))
        low, high = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(low + next(numbers) * (high - low))
        columns = round(math.sqrt(area * aspect))
        rows = round(math.sqrt(area / aspect))
        if box is None and 0 < columns <= width and 0 < rows <= height:
            box = rows, columns
    first, second = next(numbers), next(numbers)
    if box is not None:
        rows, columns = box
        return (int(first * (height - rows + 1)),
                int(second * (width - columns + 1)), rows, columns)
    rows, columns = height, width
    if width / height < ratio[0]:
        rows = round(width / ratio[0])
    elif width / height > ratio[1]:
        columns = round(height * ratio[1])
    return (height - rows) // 2, (width - columns) // 2, rows, columns


@pytest.mark.parametrize('size', [(224, 224), (64, 96), (20, 200), (90, 5)])
@pytest.mark.parametrize('scale', [(.2, 1.), (.9, 1.)])
def test_crops_follow_the_rules_of_random_resized_crop(size, scale):
    draws = uniform(200, CROP_DRAWS + AFFINE_DRAWS)
    draws[0], draws[1] = 0, 1 - 1e-12
    family = ViewFamily(scale=scale)
    crops, _ = draw_view(draws, size, (32, 32), family)
    for number, *box in zip(draws, *crops[:4], strict=True):
        top, left, rows, columns = map(int, box)
        assert (top, left, rows, columns) == naive_crop(
            number, size, scale, family.ratio)
        assert min(top, left) >= 0
        assert min(rows, columns) > 0
        assert top + rows <= size[0]
        assert left + columns <= size[1]
    assert torch.equal(crops.flip, draws[:, CROP_DRAWS - 1] < .5)


def test_crops_are_distributed_as_torchvisions():
    count = 4000
    ours = torch.stack(draw(count, (96, 128))[0][:4], dim=1).double()
    image = torch.empty(1, 96, 128)
    torch.manual_seed(0)
    theirs = torch.tensor([
        RandomResizedCrop.get_params(image, [.2, 1.], [3 / 4, 4 / 3])
        for _ in range(count)]).double()
    error = (ours.var(dim=0) / count + theirs.var(dim=0) / count).sqrt()
    assert ((ours.mean(dim=0) - theirs.mean(dim=0)).abs() < 4 * error).all()
    assert (ours.std(dim=0) / theirs.std(dim=0) - 1).abs().max() < .1


def test_expected_share_of_target_pixels_is_half():
    """Check 8: E[w] = .49 for ConCL's crops, 34 of 49 patches masked."""
    count = 2000
    theta = relative_theta(*(
        draw_view(draws, (224, 224), (224, 224), ViewFamily())[1]
        for draws in split_view_draws(uniform(count, VIEW_DRAWS))[:2]))
    mask = random_patch_mask(uniform(count, 49, 1).view(-1, 7, 7), .7)
    assert mask.sum(dim=(1, 2, 3)).unique().tolist() == [34]
    weight = warp_mask(mask, theta, (28, 28))
    assert float(weight.mean()) == pytest.approx(.49, abs=.02)
    covered = inside_frame(theta, (28, 28)).mean(dim=(1, 2, 3))
    assert float(covered.mean()) == pytest.approx(.70, abs=.02)


def test_crops_alone_have_no_off_diagonal_terms():
    plain, never, theta = (
        draw(20, (48, 64), (32, 40), vertical_flip_prob=share)[1]
        for share in (0, 1e-12, .5))
    for one in (plain, never, theta):
        assert one.dtype == torch.float64
        assert not one[:, [0, 1], [1, 0]].any()
    # The general way, without a flip, an angle or a shear.
    torch.testing.assert_close(never, plain, rtol=0, atol=1e-12)
    # A top-bottom flip only turns the sign of the vertical axis.
    assert 0 < int((theta[:, 1, 1] < 0).sum()) < 20
    torch.testing.assert_close(theta.abs(), plain.abs())


def naive_look(numbers, crop, size, family, x, y):
    """Where a place of a view, in [-1, 1], lies in the image, in pixels."""
    top, left, height, width, flip = crop
    x, y = x * width / 2, y * height / 2
    x = -x if flip else x
    y = -y if numbers[0] < family.vertical_flip_prob else y
    shear_x, shear_y = (math.tan(math.radians(
        (2 * number - 1) * family.max_shear)) for number in numbers[2:])
    y += shear_y * x
    x += shear_x * y
    angle = math.radians((2 * numbers[1] - 1) * family.max_angle)
    x, y = (math.cos(angle) * x - math.sin(angle) * y,
            math.sin(angle) * x + math.cos(angle) * y)
    return x + left + width / 2, y + top + height / 2


@pytest.mark.parametrize('limits', [
    dict(max_angle=180), dict(max_shear=45),
    dict(max_angle=90, max_shear=20, vertical_flip_prob=.5)])
@pytest.mark.parametrize('size', [(64, 64), (64, 128)])
def test_views_are_turned_and_sheared_in_pixels(size, limits):
    """Check 14: circles stay round, also if images are not square."""
    family = ViewFamily(**limits)
    draws = uniform(20, CROP_DRAWS + AFFINE_DRAWS)
    crops, theta = draw_view(draws, size, (48, 32), family)
    assert theta[:, [0, 1], [1, 0]].abs().max() > .1
    for numbers, matrix, *crop in zip(draws, theta, *crops, strict=True):
        for x, y in ((0, 0), (-1, -1), (1, -1), (-1, 1), (.3, .6)):
            got = [(place + 1) / 2 * side for place, side in zip(
                apply(matrix, x, y), size[::-1], strict=True)]
            assert got == pytest.approx(naive_look(
                numbers[CROP_DRAWS:].tolist(), map(float, crop), size, family,
                x, y), abs=1e-9)


def test_sheared_views_keep_their_area_and_are_never_singular():
    crops, theta = draw(3000, (64, 96), (64, 64), max_shear=45, max_angle=180)
    share = (crops.height * crops.width).double() / (64 * 96)
    torch.testing.assert_close(torch.linalg.det(theta).abs(), share)


def pixels(crops, index):
    """All pixels of a box."""
    top, left, height, width = (int(side[index]) for side in crops[:4])
    return {(row, column) for row in range(top, top + height)
            for column in range(left, left + width)}


def test_union_is_the_smallest_box_around_both():
    first, second = (draw(20, (60, 80), seed=seed, scale=(.05, .5))[0]
                     for seed in (0, 1))
    union = union_crops(first, second)
    assert not union.flip.any()
    apart = 0
    for index in range(20):
        one, other = pixels(first, index), pixels(second, index)
        apart += not one & other
        rows, columns = zip(*(one | other), strict=True)
        assert pixels(union, index) == {
            (row, column) for row in range(min(rows), max(rows) + 1)
            for column in range(min(columns), max(columns) + 1)}
    assert apart


def test_draws_are_split_once_each():
    numbers = torch.arange(VIEW_DRAWS + 5)[None]
    parts = split_view_draws(numbers)
    assert [part.shape[1] for part in parts] == [
        CROP_DRAWS + AFFINE_DRAWS] * 2 + [COLOR_DRAWS, 5]
    assert torch.equal(torch.cat(parts, dim=1), numbers)


def test_colors_are_within_their_ranges_and_in_any_order():
    family = ColorFamily(
        brightness=.4, contrast=.3, saturation=2., hue=.1, blur_sigma=(.5, 2))
    colors = family.draw(uniform(4000, COLOR_DRAWS))
    factors = colors.factors
    for column, (low, high) in enumerate(
        ((.6, 1.4), (.7, 1.3), (0., 3.), (-.1, .1))):
        values = factors[:, column]
        assert low <= float(values.min()) < low + .01 * (high - low)
        assert high - .01 * (high - low) < float(values.max()) <= high
    assert float(colors.sigma.min()) >= .5
    assert float(colors.sigma.max()) <= 2
    orders = [tuple(order) for order in colors.order.tolist()]
    for order in itertools.permutations(range(4)):
        # 24 orders, 167 expected of each, 13 is the standard deviation.
        assert 110 < orders.count(order) < 230
    for chosen, probability in ((colors.jitter, .8), (colors.gray, .2),
                                (colors.blur, .5)):
        assert chosen.double().mean() == pytest.approx(probability, abs=.03)


def test_steps_that_need_three_channels():
    plain = dict(saturation=0, hue=0, gray_prob=0)
    assert not ColorFamily(**plain).needs_rgb
    assert not ColorFamily(gray_prob=0, jitter_prob=0).needs_rgb
    for name in (*plain, 'stain_prob'):
        assert ColorFamily(**{**plain, name: .1}).needs_rgb


@pytest.mark.parametrize(('family', 'arguments', 'value'), [
    (ViewFamily, dict(scale=(0., 1.)), '0.0, 1.0'),
    (ViewFamily, dict(scale=(.5, 1.5)), '0.5, 1.5'),
    (ViewFamily, dict(scale=(.8, .2)), '0.8, 0.2'),
    (ViewFamily, dict(ratio=(2., 1.)), '2.0, 1.0'),
    (ViewFamily, dict(ratio=(-1., 1.)), '-1.0, 1.0'),
    (ViewFamily, dict(flip_prob=1.5), 'flip_prob .* 1.5'),
    (ViewFamily, dict(vertical_flip_prob=-.5), 'vertical_flip_prob .* -0.5'),
    (ViewFamily, dict(max_angle=181.), 'max_angle .* 181.0'),
    (ViewFamily, dict(max_angle=-1.), 'max_angle .* -1.0'),
    (ViewFamily, dict(max_shear=46.), 'max_shear .* 46.0'),
    (ViewFamily, dict(max_angle=math.nan), 'max_angle .* nan'),
    (ColorFamily, dict(brightness=-.1), 'brightness .* -0.1'),
    (ColorFamily, dict(contrast=-.2), 'contrast .* -0.2'),
    (ColorFamily, dict(saturation=-.3), 'saturation .* -0.3'),
    (ColorFamily, dict(hue=.6), 'hue .* 0.6'),
    (ColorFamily, dict(hue=-.1), 'hue .* -0.1'),
    (ColorFamily, dict(jitter_prob=2), 'jitter_prob .* 2'),
    (ColorFamily, dict(gray_prob=-1), 'gray_prob .* -1'),
    (ColorFamily, dict(blur_prob=1.01), 'blur_prob .* 1.01'),
    (ColorFamily, dict(blur_sigma=(0., 2.)), '0.0, 2.0'),
    (ColorFamily, dict(blur_sigma=(2., 1.)), '2.0, 1.0'),
    (ColorFamily, dict(stain_prob=1.1), 'stain_prob .* 1.1'),
    (ColorFamily, dict(stain_factor=1.2), 'stain_factor .* 1.2'),
    (ColorFamily, dict(stain_shift=-.1), 'stain_shift .* -0.1')])
def test_bad_arguments_are_refused_by_value(family, arguments, value):
    with pytest.raises(ValueError, match=value):
        family(**arguments)


@pytest.mark.parametrize('family', [ViewFamily, ColorFamily])
def test_misspelled_arguments_are_refused(family):
    with pytest.raises(TypeError, match='scales'):
        family(scales=1)
