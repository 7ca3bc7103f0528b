"""Regions of heat maps and places of crops, against loops and formulas."""

import math

import cv2
import numpy as np
import pytest
import torch

from mmmedmask.functional.contrastive_crop import (
    BETA_DRAWS,
    heat_map_boxes,
    place_crop,
    symmetric_beta,
)


def naive_box(features, image_size, threshold):
    """One image by OpenCV: sum, scale, interpolate, look at each pixel."""
    height, width = image_size
    heat = features.sum(dim=0).numpy()
    heat = (heat - heat.min()) / (np.ptp(heat) or 1)
    rows, columns = (cv2.resize(heat, (width, height)) > threshold).nonzero()
    if not len(rows):
        return [0., 0., 1., 1.]
    return [columns.min() / width, rows.min() / height,
            (columns.max() + 1) / width, (rows.max() + 1) / height]


@pytest.mark.parametrize('threshold', [0.5, 0.7, 0.9])
def test_boxes_are_those_of_loops(threshold):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 5, 3, 4, generator=generator) ** 3
    got = heat_map_boxes(features, (24, 40), threshold)
    for image, box in zip(features.double(), got, strict=True):
        assert box.tolist() == pytest.approx(
            naive_box(image, (24, 40), threshold), abs=1e-6)
    # The images have different boxes, and none of them is empty.
    assert len({tuple(box) for box in got.tolist()}) > 3
    assert (got[:, 2:] > got[:, :2]).all()


def test_maps_without_content_give_the_whole_image():
    flat = torch.full((1, 4, 7, 7), 3.)
    assert heat_map_boxes(flat, (32, 32)).tolist() == [[0, 0, 1, 1]]
    assert heat_map_boxes(flat, (32, 32), 0.).tolist() == [[0, 0, 1, 1]]
    # Interpolation at even factors never meets the peak itself.
    peak = torch.zeros(1, 1, 7, 7)
    peak[0, 0, 3, 3] = 1
    assert heat_map_boxes(peak, (28, 28), 0.99).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize(('features', 'threshold', 'words'), [
    (torch.zeros(2, 8), 0.1, r'\(B, C, h, w\), got \(2, 8\)'),
    (torch.zeros(1, 1, 2, 2), 1.0, r'\[0, 1\), got 1.0'),
    (torch.zeros(1, 1, 2, 2), -0.1, 'got -0.1')])
def test_bad_heat_maps_are_refused(features, threshold, words):
    with pytest.raises(ValueError, match=words):
        heat_map_boxes(features, (8, 8), threshold)


@pytest.mark.parametrize('alpha', [0.05, 0.6, 1.0])
def test_draws_have_the_density_of_beta(alpha):
    """Shares in ten bins against the integral of x^(a-1) (1-x)^(a-1) / B."""
    count = 40_000
    uniform = torch.rand(count, BETA_DRAWS, dtype=torch.float64,
                         generator=torch.Generator().manual_seed(1))
    draws = symmetric_beta(uniform, alpha)
    assert draws.shape == (count, )
    assert draws.min() >= 0
    assert draws.max() <= 1
    # Variance 1 / (4 (2 a + 1)).
    assert float(draws.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(draws.var()) == pytest.approx(
        1 / (4 * (2 * alpha + 1)), rel=0.03)
    norm = math.exp(2 * math.lgamma(alpha) - math.lgamma(2 * alpha))
    for low in range(1, 9):
        steps = [(low + (k + 0.5) / 200) / 10 for k in range(200)]
        want = sum((x * (1 - x)) ** (alpha - 1) for x in steps) / 2000 / norm
        got = float(((draws >= low / 10) & (draws < (low + 1) / 10))
                    .double().mean())
        # Five standard deviations of a share.
        assert abs(got - want) < 5 * math.sqrt(want / count) + 1e-4, low


def test_extreme_numbers_give_finite_draws():
    for value in (0.0, 1 - 1e-16):
        uniform = torch.full((2, BETA_DRAWS), value, dtype=torch.float64)
        draws = symmetric_beta(uniform, 0.1)
        assert draws.tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match=r'\(0, 1\], got 1.5'):
        symmetric_beta(uniform, 1.5)


def test_centres_lie_in_the_region():
    """Where the image allows it; a crop never leaves the image."""
    for length, side in ((100, 20), (100, 81), (33, 33), (50, 1)):
        for region in ((0., 1.), (0.3, 0.5), (0.9, 1.), (0.5, 0.5)):
            starts = [place_crop(share / 20, length, side, region)
                      for share in range(21)]
            assert starts == sorted(starts)
            assert starts[0] >= 0
            assert starts[-1] <= length - side
            for start in starts:
                centre = (start + side / 2) / length
                inside = region[0] - 1 / length <= centre \
                    <= region[1] + 1 / length
                assert inside or start in (0, length - side)
    # The ends of the region are reached.
    assert place_crop(0., 100, 20, (0.3, 0.5)) == 20
    assert place_crop(1., 100, 20, (0.3, 0.5)) == 40
    assert place_crop(0.5, 100, 20, (0.3, 0.5)) == 30
