"""Resampling against loops over pixels in float64.

Checks 5, 8, 10 and 13 (warps of images, features and masks).
"""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import map_coordinates

from mmmedmask.functional import warp
from mmmedmask.functional.affine import relative_theta
from mmmedmask.functional.warp import (
    hat_matrix,
    inside_frame,
    resample,
    resample_cubic,
    sampling_grid,
    separable_product,
    warp_features,
    warp_mask,
)

from .test_affine import apply, box_theta, cells, random_theta
from .test_views import draw


def crop_matrices(count, seed):
    """Matrices of random crops and flips, and of the second over the first.
    """
    _, theta1 = draw(count, (64, 96), seed=2 * seed)
    _, theta2 = draw(count, (64, 96), seed=2 * seed + 1)
    return theta1, relative_theta(theta1, theta2)


def enlarged(mask, side):
    return mask.repeat_interleave(side, 2).repeat_interleave(side, 3)


def naive_bilinear(image, theta, size):
    """One (H, W) image at each pixel's place, the border repeated."""
    places = np.array([apply(theta, x, y) for _, _, x, y in cells(*size)]).T
    columns, rows = (((one + 1) * side - 1) / 2 for one, side in zip(
        places, image.shape[::-1], strict=True))
    return torch.from_numpy(map_coordinates(
        image, (rows, columns), order=1, mode='nearest').reshape(size))


@pytest.mark.parametrize(('theta', 'separable'), [
    (crop_matrices(3, 0)[1], True), (crop_matrices(3, 0)[1], False),
    (random_theta(3, 1), False)], ids=['product', 'grid', 'rotated'])
@pytest.mark.parametrize('size', [(5, 7), (12, 9)])
def test_resample_equals_a_loop_over_pixels(theta, separable, size):
    images = torch.rand(3, 2, 9, 11, dtype=torch.float64)
    got = resample(images, theta, size, separable)
    for image, one, matrix in zip(images, got, theta, strict=True):
        for channel in range(2):
            torch.testing.assert_close(
                one[channel], naive_bilinear(image[channel], matrix, size),
                rtol=0, atol=1e-12)


def naive_antialiased(line, scale, shift, length):
    """Shrink one line of numbers as Pillow does: a triangle as wide as an
    output cell, its weights divided by their sum.
    """
    count = len(line)
    centres = scale * ((2 * np.arange(length) + 1) / length - 1) + shift
    centres = ((centres + 1) * count - 1) / 2
    weights = np.clip(1 - abs(np.arange(count) - centres[:, None]) / max(
        1., abs(scale) * count / length), 0, None)
    return weights @ line.numpy() / weights.sum(axis=1)


@pytest.mark.parametrize('scale', [1., .9, -.6, .3])
def test_antialiasing_looks_at_every_pixel(scale):
    shift = .9 * (1 - abs(scale))
    line = torch.rand(40, dtype=torch.float64)
    weights = hat_matrix(torch.tensor([scale], dtype=torch.float64),
                         torch.tensor([shift], dtype=torch.float64), 8, 40,
                         antialias=True)
    want = torch.from_numpy(naive_antialiased(line, scale, shift, 8))
    torch.testing.assert_close(weights[0] @ line, want, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        weights.sum(-1), torch.ones(1, 8).double(), rtol=0, atol=1e-12)
    if abs(scale) == 1:
        assert bool((weights[0] > 0).any(dim=0).all())


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('size', [(20, 32), (60, 40)])
def test_crops_are_those_of_pillow(size, flip):
    """Shrunk, and in part enlarged; linear within Pillow's 8 bits."""
    top, left, height, width = 7, 12, 48, 70
    theta = box_theta(top, left, height, width, size=(60, 90), flip=flip)
    pixels = (torch.rand(1, 1, 60, 90) * 255).round()
    for kind, kinds, got, limit in (
            ('BILINEAR', np.uint8, resample(
                pixels, theta.float(), size, True, antialias=True), 1.01),
            ('BICUBIC', np.float32, resample_cubic(
                pixels, theta.float(), size), 255 * 2e-5)):
        picture = Image.fromarray(pixels[0, 0].numpy().astype(kinds))
        want = picture.resize(size[::-1], Image.Resampling[kind],
                              box=(left, top, left + width, top + height))
        if flip:
            want = want.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        assert np.abs(got[0, 0].numpy() - np.array(want)).max() < limit


@pytest.mark.parametrize('size', [(9, 14), (30, 41), (12, 12)])
def test_whole_images_are_torchs_bicubic(size):
    """Pillow's, that is with antialias: enlarged, shrunk and unchanged."""
    images = torch.rand(2, 3, 12, 20, dtype=torch.float64)
    theta = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
    want = F.interpolate(images, size, mode='bicubic', antialias=True)
    torch.testing.assert_close(resample_cubic(images, theta, size), want)


def test_antialiasing_changes_nothing_where_a_view_enlarges():
    _, theta = crop_matrices(4, 2)
    images = torch.rand(4, 3, 8, 8, dtype=torch.float64)
    size = (32, 32)  # four times as many: no crop can need more
    torch.testing.assert_close(
        resample(images, theta, size, True, antialias=True),
        resample(images, theta, size, True), rtol=0, atol=1e-12)


def test_antialiasing_needs_axis_aligned_views():
    with pytest.raises(ValueError, match='separable=False'):
        resample(torch.rand(1, 1, 8, 8), torch.eye(3)[None], (4, 4), False,
                 antialias=True)


@pytest.mark.parametrize('separable', [True, False])
@pytest.mark.parametrize('shift', [(0., 0.), (-31 / 160, -31 / 192)])
def test_identity_warp_changes_nothing(separable, shift):
    """Check 5: t2 = t1 leaves features alone."""
    theta1, _ = crop_matrices(4, 3)
    theta = relative_theta(theta1.float(), theta1.float())
    features = torch.randn(4, 8, 6, 5)
    warped = warp_features(features, theta, separable, shift)
    assert (warped - features).abs().max() < 5e-6


def test_identity_mask_is_the_enlarged_mask():
    """Check 5: with t2 = t1 the loss counts exactly in masked patches."""
    theta1, _ = crop_matrices(8, 4)
    theta = relative_theta(theta1.float(), theta1.float())
    mask = torch.rand(8, 1, 7, 7).round()
    assert torch.equal(warp_mask(mask, theta, (224, 224)), enlarged(mask, 32))


@pytest.mark.parametrize('family', ['crops', 'rotated'])
def test_warped_mask_equals_a_loop_over_pixels(family):
    """Check 8: nearest sampling is floor((Theta p + 1) / 2 * 7)."""
    if family == 'crops':
        _, theta = crop_matrices(8, 5)
    else:
        theta = random_theta(8, 6)
    mask = torch.rand(8, 1, 7, 5).round()
    size = (30, 22)
    got = warp_mask(mask, theta.float(), size)
    outside = 0
    for index, (row, column, x, y) in itertools.product(
            range(8), cells(*size)):
        x, y = apply(theta[index], x, y)
        x, y = (x + 1) / 2 * 5, (y + 1) / 2 * 7
        # On the line between patches float32 may take either.
        if min(abs(x - round(x)), abs(y - round(y))) < 1e-5:
            continue
        inside = 0 <= x < 5 and 0 <= y < 7
        want = float(mask[index, 0, int(y), int(x)]) if inside else 0.
        outside += not inside
        assert float(got[index, 0, row, column]) == want
    assert outside > 0


@pytest.mark.parametrize('shift', [(0., 0.), (-.3, .2)])
def test_inside_frame_equals_a_loop(shift):
    theta = random_theta(4, 8)
    got = inside_frame(theta, (6, 9), shift)
    for index, (row, column, x, y) in itertools.product(range(4), cells(6, 9)):
        x, y = apply(theta[index], x + shift[0], y + shift[1])
        want = abs(x) <= 1 and abs(y) <= 1
        assert bool(got[index, 0, row, column]) == want
    assert 0 < got.mean() < 1


@pytest.mark.parametrize('shift', [(0., 0.), (-.2, -.3)])
def test_separable_warp_equals_grid_sample(shift):
    """Check 10, forward: two products and grid_sample, one result."""
    _, theta = crop_matrices(16, 9)
    features = torch.randn(16, 4, 14, 10, dtype=torch.float64)
    torch.testing.assert_close(warp_features(features, theta, True, shift),
                               warp_features(features, theta, False, shift),
                               rtol=0, atol=1e-12)
    single = warp_features(features.float(), theta.float(), True, shift)
    double = warp_features(features, theta, False, shift)
    # float32 may put a place that lies on the frame on its other side.
    difference = (single - double).abs().amax(dim=1)
    assert (difference > 1e-4).float().mean() < 1e-3


def test_separable_warp_has_the_gradient_of_grid_sample():
    """Check 10, backward: equal to grid_sample and to differences."""
    _, theta = crop_matrices(3, 10)
    features = torch.randn(3, 2, 5, 7, dtype=torch.float64)
    gradients = []
    direction = torch.randn_like(features)
    for separable in (True, False):
        leaf = features.clone().requires_grad_()
        (warp_features(leaf, theta, separable, (-.1, .1)) *
         direction).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)
    leaf = features[:, :1].clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda inputs: warp_features(inputs, theta, True), leaf)


def test_separable_warp_is_deterministic():
    """Check 10: two runs give the same bits, forward and backward."""
    _, theta = crop_matrices(4, 11)
    runs = []
    for _ in range(2):
        leaf = torch.linspace(-1, 1, 4 * 8 * 196).view(
            4, 8, 14, 14).requires_grad_()
        output = warp_features(leaf, theta.float(), True)
        runs.append((output, *torch.autograd.grad(
            output.square().sum(), leaf)))
    assert all(map(torch.equal, *runs))


@pytest.mark.parametrize('large', [0, 2**30])
@pytest.mark.parametrize('memory_format',
                         [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('channels', [1, 3])
def test_product_equals_a_loop_over_channels(monkeypatch, large,
                                             memory_format, channels):
    """Whole and by the parts that hold values, forward and backward."""
    monkeypatch.setattr(warp, 'LARGE_MAP', large)
    inputs, direction = (
        torch.randn(4, channels, *size, dtype=torch.float64).contiguous(
            memory_format=memory_format) for size in ((6, 5), (7, 8)))
    rows = torch.rand(4, 7, 6, dtype=torch.float64)
    columns = torch.rand(4, 8, 5, dtype=torch.float64)
    rows[1, :3] = rows[1, :, 4:] = columns[1, 6:] = columns[1, :, 0] = 0
    rows[2], columns[3] = 0, 0
    inputs.requires_grad_()
    output = separable_product(inputs, rows, columns)
    gradient, = torch.autograd.grad(output, inputs, direction)
    for image, channel in itertools.product(range(4), range(channels)):
        row, column = rows[image], columns[image]
        torch.testing.assert_close(
            output[image, channel], row @ inputs[image, channel] @ column.T,
            rtol=0, atol=1e-12)
        torch.testing.assert_close(
            gradient[image, channel],
            row.T @ direction[image, channel] @ column, rtol=0, atol=1e-12)
    assert output.is_contiguous(memory_format=memory_format)
    assert gradient.is_contiguous(memory_format=memory_format)


def test_product_of_float32_follows_autocast():
    with torch.autocast('cpu', dtype=torch.bfloat16):
        output = separable_product(torch.rand(1, 2, 3, 3), torch.ones(1, 2, 3),
                                   torch.ones(1, 2, 3))
    assert output.dtype == torch.bfloat16


def test_features_outside_the_first_view_are_zero():
    # The second view is the right half of the picture, the first the left.
    theta = relative_theta(*(box_theta(
        0, left, 16, 8, size=(16, 16)).float() for left in (0, 8)))
    for separable in (True, False):
        warped = warp_features(torch.ones(1, 3, 4, 4), theta, separable)
        assert warped.abs().max() == 0
    assert warp_mask(torch.ones(1, 1, 2, 2), theta, (8, 8)).sum() == 0


def test_grid_equals_pytorchs_own():
    theta = random_theta(3, 13)
    torch.testing.assert_close(
        sampling_grid(theta, (5, 8)),
        F.affine_grid(theta[:, :2], [3, 1, 5, 8], align_corners=False), rtol=0,
        atol=1e-12)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_grids_and_masks_keep_float32_under_autocast(dtype):
    """Check 13: coordinates stay float32, features may be half."""
    _, theta = crop_matrices(6, 14)
    features = torch.randn(6, 4, 56, 56)
    mask = torch.rand(6, 1, 7, 7).round()
    single = theta.float()
    with torch.autocast('cpu', dtype=dtype):
        grid = sampling_grid(single, (224, 224))
        hat = hat_matrix(single[:, 0, 0], single[:, 0, 2], 112, 112)
        weight = warp_mask(mask, single, (224, 224))
        separable = warp_features(features.to(dtype), single, True)
        sampled = warp_features(features.to(dtype), single, False)
    assert grid.dtype == hat.dtype == weight.dtype == torch.float32
    assert (grid - sampling_grid(theta, (224, 224))).abs().max() < 1e-5
    assert torch.equal(weight, warp_mask(mask, single, (224, 224)))
    # What is left is the rounding of values to half precision.
    assert separable.dtype == sampled.dtype == dtype
    want = warp_features(features.double(), theta, False)
    for got in (separable, sampled):
        difference = (got.double() - want).abs().amax(dim=1)
        assert (difference > .06).float().mean() < 1e-3
