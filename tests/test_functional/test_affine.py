"""Affine matrices against algebra done point by point in Python floats.

Checks 6 and 9 (algebra of views) and 13 (coordinates under autocast).
"""

import itertools
import math

import pytest
import torch

from mmmedmask.functional import affine
from mmmedmask.functional.views import Crops, crop_theta
from mmmedmask.functional.warp import inside_frame, resample


def random_theta(count, seed, angle=180.0):
    """Matrices of rotations, scales (0.5 to 1) and small shifts."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(count, 5, generator=generator, dtype=torch.float64)
    matrices = []
    for turn, x, y, left, top in draws.tolist():
        radians = math.radians(angle) * (2 * turn - 1)
        x, y = .5 + .5 * x, .5 + .5 * y
        cosine, sine = math.cos(radians), math.sin(radians)
        matrices.append([[cosine * x, -sine * y, .4 * left - .2],
                         [sine * x, cosine * y, .4 * top - .2], [0, 0, 1]])
    return torch.tensor(matrices, dtype=torch.float64)


def box_theta(*box, size, flip=False):
    """Matrix of one crop (top, left, height, width) of an image (h, w)."""
    return crop_theta(Crops(*torch.tensor([[*box, flip]]).T), size)


def cells(height, width, step=1):
    """Row, column, and the centre (x, y) in [-1, 1] of cells of a grid."""
    for row, column in itertools.product(range(0, height, step),
                                         range(0, width, step)):
        yield (row, column, (2 * column + 1) / width - 1,
               (2 * row + 1) / height - 1)


def apply(theta, x, y):
    """Apply one matrix to one point."""
    return tuple(a * x + b * y + c for a, b, c in theta[:2].tolist())


@pytest.mark.parametrize('flip', [False, True])
def test_crop_theta_maps_pixels_of_the_view_into_the_box(flip):
    height, width = 48, 80
    top, left, rows, columns = 5, 11, 30, 44
    view_height, view_width = 6, 8
    theta = box_theta(top, left, rows, columns, size=(height, width),
                      flip=flip)
    assert theta.dtype == torch.float64
    for row, column, x, y in cells(view_height, view_width):
        got_x, got_y = apply(theta[0], x, y)
        place = (column + .5) / view_width
        want_x = left + (1 - place if flip else place) * columns
        want_y = top + (row + .5) / view_height * rows
        assert (got_x + 1) / 2 * width == pytest.approx(want_x, abs=1e-9)
        assert (got_y + 1) / 2 * height == pytest.approx(want_y, abs=1e-9)


def test_inverse_and_relative_matrices():
    """Check 6, the algebra: Theta == inv(theta1) @ theta2."""
    theta1, theta2 = random_theta(20, 1), random_theta(20, 2)
    inverse = torch.linalg.inv(theta1)
    torch.testing.assert_close(
        affine.invert_affine(theta1), inverse, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        affine.relative_theta(theta1, theta2), inverse @ theta2, rtol=0,
        atol=1e-12)
    boxes = torch.stack([box_theta(3, 8, 20, 30, size=(48, 64), flip=True)[0],
                         torch.eye(3).double()])
    assert affine.is_axis_aligned(affine.relative_theta(boxes, boxes.flip(0)))
    assert not affine.is_axis_aligned(torch.cat([boxes, theta1]))


def analytic_view(theta, size):
    """A smooth picture, evaluated exactly where a view looks."""
    y, x = torch.meshgrid(*(
        (2 * torch.arange(side, dtype=torch.float64) + 1) / side - 1
        for side in size), indexing='ij')
    looked_x = theta[0, 0] * x + theta[0, 1] * y + theta[0, 2]
    looked_y = theta[1, 0] * x + theta[1, 1] * y + theta[1, 2]
    return (torch.cos(2.1 * looked_x + .3) * torch.sin(1.7 * looked_y - .4) +
            .5 * torch.sin(2.6 * looked_y + 1.3 * looked_x))


@pytest.mark.parametrize('size', [(96, 96), (64, 128)])
def test_warping_one_view_gives_the_other(size):
    """Check 6: warp(x1, Theta) is x2, and the swapped order is not."""
    theta1, theta2 = random_theta(6, 3), random_theta(6, 4)
    first, second = (
        torch.stack([analytic_view(one, size) for one in theta])[:, None]
        for theta in (theta1, theta2))

    def error(theta):
        # One pixel away from the frame, where nothing is extrapolated.
        margin = 1 - 2 / min(size)
        scaled = theta.clone()
        scaled[:, :2] /= margin
        inside = inside_frame(scaled, size).bool()
        warped = resample(first, theta, size, separable=False)
        assert inside.float().mean() > .2
        return (warped - second).abs()[inside].max()

    assert error(affine.relative_theta(theta1, theta2)) < 2e-3
    swapped = theta2 @ torch.linalg.inv(theta1)
    assert error(swapped) > .3


@pytest.mark.parametrize(('stride', 'offset'), [(2, 0.), (8, 0.), (32, 0.),
                                                (4, 1.5), (16, 3.)])
@pytest.mark.parametrize('size', [(64, 64), (224, 448)])
def test_shift_theta_equals_the_derivation_in_pixel_indices(
        stride, offset, size):
    """Check 9: the conjugation, for cells of any receptive-field centre."""
    theta = random_theta(5, 5)
    shift = affine.receptive_field_shift(offset, stride, size)
    shifted = affine.shift_theta(theta, shift)
    height, width = size
    for index, *cell in itertools.product(
            range(len(theta)), range(0, width // stride, 3),
            range(0, height // stride, 3)):
        # Where feature (column, row) of the key looks, in pixels, then where
        # that lies on the query, then which feature of the query (a
        # fraction) looks there.
        looks = apply(theta[index], *(
            (2 * (offset + stride * place) + 1) / side - 1
            for place, side in zip(cell, size[::-1], strict=True)))
        want = [(((place + 1) * side - 1) / 2 - offset) / stride
                for place, side in zip(looks, size[::-1], strict=True)]
        # The same by the shifted matrix between cell coordinates.
        looks = apply(shifted[index], *(
            (2 * place + 1) * stride / side - 1
            for place, side in zip(cell, size[::-1], strict=True)))
        assert [((place + 1) * side / stride - 1) / 2 for place, side in zip(
            looks, size[::-1], strict=True)] == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_coordinates_keep_their_precision_under_autocast(dtype):
    """Check 13: matrices stay float32, to the last bits."""
    theta1, theta2 = random_theta(8, 7), random_theta(8, 8)
    expected = torch.linalg.inv(theta1) @ theta2
    with torch.autocast('cpu', dtype=dtype):
        theta = affine.relative_theta(theta1.float(), theta2.float())
        inverse = affine.invert_affine(theta1.float())
        shifted = affine.shift_theta(theta, (.1, -.2))
    for got, want in ((theta, expected), (inverse, torch.linalg.inv(theta1)),
                      (shifted, affine.shift_theta(expected, (.1, -.2)))):
        assert got.dtype == torch.float32
        assert (got.double() - want).abs().max() < 2e-6
