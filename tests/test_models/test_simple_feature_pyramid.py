"""Simple feature pyramid: against loops, sizes, gradients, bad arguments."""

import math
from itertools import product

import pytest
import torch

from mmmedmask.models.detection import SimpleFeaturePyramid
from mmmedmask.models.detection.simple_feature_pyramid import NORM_EPS


def naive_double(image, weight, bias):
    """Transposed convolution, kernel = stride = 2, pixel by pixel."""
    _, rows, columns = image.shape
    out = torch.zeros(
        weight.shape[1], 2 * rows, 2 * columns, dtype=image.dtype)
    for row, column in product(range(2 * rows), range(2 * columns)):
        kernel = weight[:, :, row % 2, column % 2]
        out[:, row, column] = image[:, row // 2, column // 2] @ kernel
    return out + bias[:, None, None]


def naive_norm(image, weight, bias):
    """Each pixel's channels to mean 0 and variance 1."""
    out = torch.empty_like(image)
    for row, column in product(*map(range, image.shape[1:])):
        pixel = image[:, row, column]
        centred = pixel - pixel.mean()
        scale = (centred.square().mean() + NORM_EPS).sqrt()
        out[:, row, column] = centred / scale * weight + bias
    return out


def naive_conv(image, weight):
    """Convolution without bias; pixels outside are 0."""
    _, rows, columns = image.shape
    reach = weight.shape[-1] // 2
    out = torch.zeros(weight.shape[0], rows, columns, dtype=image.dtype)
    for row, column in product(range(rows), range(columns)):
        for down, right in product(range(-reach, reach + 1), repeat=2):
            y, x = row + down, column + right
            if 0 <= y < rows and 0 <= x < columns:
                kernel = weight[:, :, down + reach, right + reach]
                out[:, row, column] += kernel @ image[:, y, x]
    return out


def naive_gelu(image):
    return image * .5 * (1 + torch.erf(image / math.sqrt(2)))


def naive_halve(image):
    channels, rows, columns = image.shape
    out = torch.empty(channels, rows // 2, columns // 2, dtype=image.dtype)
    for row, column in product(*map(range, out.shape[1:])):
        block = image[:, 2 * row:2 * row + 2, 2 * column:2 * column + 2]
        out[:, row, column] = block.flatten(1).max(dim=1).values
    return out


def naive_pyramid(pyramid, image):
    """All five levels of one image (C, h, w)."""
    weights = dict(pyramid.named_parameters())

    def pair(name):
        return weights[f'{name}.weight'], weights[f'{name}.bias']

    quadruple = naive_norm(
        naive_double(image, *pair('levels.0.0.0')), *pair('levels.0.0.1'))
    resized = [naive_double(naive_gelu(quadruple), *pair('levels.0.0.3')),
               naive_double(image, *pair('levels.1.0')), image,
               naive_halve(image)]
    out = []
    for number, one in enumerate(resized):
        name = f'levels.{number}'
        one = naive_norm(naive_conv(one, weights[f'{name}.1.weight']),
                         *pair(f'{name}.2'))
        out.append(naive_norm(naive_conv(one, weights[f'{name}.3.weight']),
                              *pair(f'{name}.4')))
    return [*out, out[-1][:, ::2, ::2]]


def test_equals_loops():
    pyramid = SimpleFeaturePyramid(8, 6).double()
    for parameter in pyramid.parameters():
        parameter.data.add_(.3 * torch.randn_like(parameter))
    features = torch.randn(2, 8, 5, 4, dtype=torch.float64)
    with torch.no_grad():
        levels = pyramid((features, ))
        assert len(levels) == 5
        for number, image in enumerate(features):
            for found, expected in zip(
                    levels, naive_pyramid(pyramid, image), strict=True):
                torch.testing.assert_close(found[number], expected)


@pytest.mark.parametrize(('size', 'sizes'), [
    ((2, 2), [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]),
    ((5, 7), [(20, 28), (10, 14), (5, 7), (2, 3), (1, 2)]),
    ((50, 75), [(200, 300), (100, 150), (50, 75), (25, 37), (13, 19)])])
def test_sizes(size, sizes):
    """Maps of images whose sides are not multiples of 32, too."""
    levels = SimpleFeaturePyramid(4, 3)(torch.randn(1, 4, *size))
    assert [tuple(level.shape) for level in levels
            ] == [(1, 3, *one) for one in sizes]


@pytest.mark.parametrize('num_outs', [4, 5, 6])
def test_number_of_levels_of_the_last_map(num_outs):
    pyramid = SimpleFeaturePyramid(4, 3, num_outs)
    first, last = torch.randn(2, 1, 4, 8, 8)
    levels = pyramid((first, last))
    assert [level.shape[-1] for level in levels
            ] == [32, 16, 8, 4, 2, 1][:num_outs]
    for from_many, from_one in zip(levels, pyramid(last), strict=True):
        assert torch.equal(from_many, from_one)


def test_gradients_reach_every_parameter_and_pixel():
    pyramid = SimpleFeaturePyramid(8, 4).double()
    features = torch.randn(1, 8, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pyramid, (features, ))
    loss = sum(
        (level * torch.randn_like(level)).sum() for level in pyramid(features))
    loss.backward()
    assert features.grad.abs().min() > 0
    for name, parameter in pyramid.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(in_channels=6), 'multiple of 4, got 6'),
    (dict(in_channels=0), 'multiple of 4, got 0'),
    (dict(in_channels=8, out_channels=0), 'out_channels .* got 0'),
    (dict(in_channels=8, num_outs=3), 'at least 4, got 3'),
    (dict(in_channels=4), r'2 x 2, got \(1, 9\)')])
def test_bad_arguments_and_a_map_of_one_row(arguments, message):
    with pytest.raises(ValueError, match=message):
        SimpleFeaturePyramid(**arguments)(torch.randn(1, 4, 1, 9))
