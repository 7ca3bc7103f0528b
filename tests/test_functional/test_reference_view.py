"""The reference view holds both crops and looks as Pillow's bicubic does."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mmmedmask.functional.affine import crop_theta
from mmmedmask.functional.reference_view import (
    cubic_matrix,
    keys_cubic,
    resample_cubic,
    union_crops,
)
from mmmedmask.functional.views import CROP_DRAWS, random_resized_crops


def draw_crops(seed, count=20):
    uniform = torch.rand(count, CROP_DRAWS, dtype=torch.float64,
                         generator=torch.Generator().manual_seed(seed))
    return random_resized_crops(uniform, (60, 80), (.05, .5), (3 / 4, 4 / 3),
                                .5)


def cells(crops, index):
    """All pixels of a box."""
    top, left, height, width = (
        int(getattr(crops, name)[index])
        for name in ('top', 'left', 'height', 'width'))
    return {(row, column) for row in range(top, top + height)
            for column in range(left, left + width)}


def test_union_is_the_smallest_box_around_both():
    first, second = draw_crops(0), draw_crops(1)
    union = union_crops(first, second)
    assert not union.flip.any()
    apart = 0
    for index in range(20):
        one, other = cells(first, index), cells(second, index)
        apart += not one & other
        both = one | other
        rows, columns = zip(*both, strict=True)
        assert cells(union, index) == {
            (row, column) for row in range(min(rows), max(rows) + 1)
            for column in range(min(columns), max(columns) + 1)}
    assert apart


@pytest.mark.parametrize('size', [(9, 14), (30, 41), (12, 12)])
def test_whole_images_are_torchs_bicubic(size):
    """Pillow's, that is with antialias: enlarged, shrunk and unchanged."""
    images = torch.rand(2, 3, 12, 20, dtype=torch.float64)
    theta = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
    want = F.interpolate(images, size, mode='bicubic', antialias=True)
    torch.testing.assert_close(resample_cubic(images, theta, size), want)


def test_boxes_are_those_of_pillow():
    image = torch.rand(1, 1, 60, 80)
    crops = draw_crops(2)
    theta = crop_theta(crops.top, crops.left, crops.height, crops.width,
                       (60, 80), torch.zeros(20, dtype=torch.bool))
    views = resample_cubic(image.repeat(20, 1, 1, 1), theta.float(), (48, 32))
    picture = Image.fromarray(image[0, 0].numpy())
    for index in range(20):
        top, left, height, width = (
            int(getattr(crops, name)[index])
            for name in ('top', 'left', 'height', 'width'))
        want = picture.resize((32, 48), Image.Resampling.BICUBIC,
                              box=(left, top, left + width, top + height))
        np.testing.assert_allclose(views[index, 0], np.array(want), atol=2e-5)


def test_kernel_is_that_of_keys():
    places = [0, .5, 1, 1.5, 2, 3, -.5]
    # a = -1/2: 1, 9/16, 0, -1/16, 0, 0.
    want = [1, .5625, 0, -.0625, 0, 0, .5625]
    got = keys_cubic(torch.tensor(places, dtype=torch.float64))
    assert got.tolist() == pytest.approx(want, abs=1e-15)
    rows = cubic_matrix(torch.tensor([.3]), torch.tensor([.6]), 5, 9)
    torch.testing.assert_close(rows.sum(dim=2), torch.ones(1, 5))
