"""Simple feature pyramid: formulas, sizes, gradients, bad arguments."""

import pytest
import torch
import torch.nn.functional as F

from mmmedmask.models.detection import SimpleFeaturePyramid
from mmmedmask.models.detection.simple_feature_pyramid import NORM_EPS


def by_formulas(pyramid, image):
    """All five levels of maps (B, C, h, w), from the parameters by name."""
    weights = dict(pyramid.named_parameters())

    def pair(name):
        return weights[f'{name}.weight'], weights[f'{name}.bias']

    def norm(maps, name):
        """Each pixel's channels to mean 0 and variance 1."""
        return F.layer_norm(maps.movedim(1, -1), maps.shape[1:2], *pair(name),
                            eps=NORM_EPS).movedim(-1, 1)

    def double(maps, name):
        return F.conv_transpose2d(maps, *pair(name), stride=2)

    quadruple = F.gelu(norm(double(image, 'levels.0.0.0'), 'levels.0.0.1'))
    out = []
    for number, one in enumerate((
            double(quadruple, 'levels.0.0.3'), double(image, 'levels.1.0'),
            image, F.max_pool2d(image, 2))):
        for place in (1, 3):
            name = f'levels.{number}'
            one = norm(F.conv2d(one, weights[f'{name}.{place}.weight'],
                                padding='same'), f'{name}.{place + 1}')
        out.append(one)
    return [*out, out[-1][..., ::2, ::2]]


def test_equals_formulas():
    pyramid = SimpleFeaturePyramid(8, 6).double()
    for parameter in pyramid.parameters():
        parameter.data.add_(.3 * torch.randn_like(parameter))
    features = torch.randn(2, 8, 5, 4, dtype=torch.float64)
    for found, expected in zip(pyramid((features, )),
                               by_formulas(pyramid, features), strict=True):
        torch.testing.assert_close(found, expected)


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
    (dict(in_channels=0), 'at least 1, got 0'),
    (dict(in_channels=8, out_channels=0), 'out_channels .* got 0'),
    (dict(in_channels=8, num_outs=3), 'at least 4, got 3'),
    (dict(in_channels=4), r'2 x 2, got \(1, 9\)')])
def test_bad_arguments_and_a_map_of_one_row(arguments, message):
    with pytest.raises(ValueError, match=message):
        SimpleFeaturePyramid(**arguments)(torch.randn(1, 4, 1, 9))
