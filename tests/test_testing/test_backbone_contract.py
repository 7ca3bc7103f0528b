"""The contract accepts every shipped encoder and catches broken ones."""


import pytest
import torch
from model_checks import unchanged
from refusals import refuses
from torch import nn

from mmmedmask.models import cmim
from mmmedmask.testing.backbone_contract import (
    ContractError,
    check_backbone_contract,
)

CHANNELS = dict(stem_channels=8, base_channels=8)
SHIPPED = {
    'ResNet-18': lambda: cmim.CMIMResNet(depth=18, **CHANNELS),
    'ResNet-18 after the pooling':
    lambda: cmim.CMIMResNet(depth=18, mask_at='maxpool', **CHANNELS),
    'ResNet-34': lambda: cmim.CMIMResNet(depth=34, **CHANNELS),
    'ResNet-50': lambda: cmim.CMIMResNet(depth=50, **CHANNELS),
    'ResNetV1c-50': lambda: cmim.CMIMResNetV1c(depth=50, **CHANNELS),
    'ResNetV1d-18': lambda: cmim.CMIMResNetV1d(depth=18, **CHANNELS),
    'ConvNeXt': lambda: cmim.CMIMConvNeXt(
        arch=dict(depths=[1, 1, 2, 1], channels=[8, 16, 32, 64])),
    'sparse ResNet-18': lambda: cmim.CMIMSparseResNet(depth=18, **CHANNELS),
}


@pytest.mark.parametrize('name', SHIPPED)
def test_shipped_encoders_fulfil_the_contract(name):
    torch.manual_seed(0)
    encoder = SHIPPED[name]()
    encoder.init_weights()
    with unchanged(encoder):
        levels = check_backbone_contract(encoder)
    assert levels.strides[-1] == 32
    assert encoder.training
    assert all(parameter.grad is None for parameter in encoder.parameters())


@pytest.mark.parametrize('in_channels', [1, 5])
def test_other_numbers_of_channels(in_channels):
    encoder = cmim.CMIMResNet(depth=18, in_channels=in_channels, **CHANNELS)
    check_backbone_contract(encoder, in_channels)


class Network(nn.Module):
    """Three convolutions of stride 2, the least that is a CNN."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.first = nn.Sequential(
            nn.Conv2d(4, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Conv2d(8, 16, 3, 2, 1)

    def forward(self, x):
        return self.second(self.first(self.stem(x)))


class Good(cmim.MaskedBackbone, Network):
    def forward_stem(self, images):
        return self.stem(images)

    def forward_stages(self, embedding):
        first = self.first(embedding)
        return first, self.second(first)


def test_a_small_network_fulfils_the_contract():
    levels = check_backbone_contract(Good(), image_size=32)
    assert levels.strides == (2, 4, 8)
    assert levels.channels == (4, 8, 16)
    assert levels.offsets == (0., 0., 0.)


class NoStages(cmim.MaskedBackbone, Network):
    def forward_stem(self, images):
        return self.stem(images)


class WrongOrder(Network, cmim.MaskedBackbone):
    forward_stem, forward_stages = Good.forward_stem, Good.forward_stages


class OtherForward(Good):
    """Without a mask it is not the plain network."""

    def forward(self, x, mask=None, mask_tokens=()):
        output = super().forward(x, mask, mask_tokens)
        return output if mask is not None else 2 * output


class OtherStages(Good):
    """Forgets an activation."""

    def forward_stages(self, embedding):
        first = self.first[:2](embedding)
        return first, self.second(first)


class StagesShort(Good):
    def forward_stages(self, embedding):
        return (self.first(embedding), )


class Leaking(Good):
    """Masks the embedding alone: the stem looks across the border."""

    def forward(self, x, mask=None, mask_tokens=()):
        if mask is None:
            return super().forward(x)
        embedding = cmim.insert_mask_token(
            self.forward_stem(x), mask, mask_tokens[0])
        return embedding, *self.forward_stages(embedding)


class Tokenless(Good):
    """Masks the image, and puts nothing in its place."""

    def forward(self, x, mask=None, mask_tokens=()):
        if mask is None:
            return super().forward(x)
        mask = nn.functional.interpolate(mask, x.shape[-2:])
        embedding = self.forward_stem(x * (1 - mask))
        return embedding, *self.forward_stages(embedding)


class SelfishToken(Good):
    """Adds the token everywhere."""

    def forward(self, x, mask=None, mask_tokens=()):
        if mask is None:
            return super().forward(x)
        first, *others = super().forward(x, mask, mask_tokens)
        return (first, *others[:-1], others[-1] + mask_tokens[0].sum())


class LosingALevel(Good):
    def forward(self, x, mask=None, mask_tokens=()):
        output = super().forward(x, mask, mask_tokens)
        return output if mask is None else output[1:]


class ExtraParameter(Good):
    """Its token goes into checkpoints of the backbone."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 4, 1, 1))

    def forward_stages(self, embedding):
        first = self.first(embedding)
        return first, self.second(first) + 0 * self.token.sum()


class WrongOffset(Good):
    def receptive_field_offset(self, stride):
        return (stride - 1) / 2


class BadGradient(Good):
    def forward_stages(self, embedding):
        first, second = super().forward_stages(embedding)
        zero = self.second.bias - self.second.bias.detach()
        return first, second + zero.abs().sqrt().sum()


class Blind(Good):
    """Its last level does not look at the picture."""

    def forward(self, x, mask=None, mask_tokens=()):
        if mask is None:
            return 0 * Network.forward(self, x) + 1
        return super().forward(x, mask, mask_tokens)


def good(**parts):
    """A network that fulfils the contract, but for some parts."""
    network = Good()
    for name, part in parts.items():
        setattr(network, name, part)
    return network


@pytest.mark.parametrize(('encoder', 'message'), [
    (Network, 'subclass .*MaskedBackbone'),
    (NoStages, 'NoStages has to implement forward_stages'),
    (WrongOrder, r'class WrongOrder\(MaskedBackbone, Network\)'),
    (OtherForward, 'differs from the plain network'),
    (OtherStages, 'is not the last output .* a difference of'),
    (StagesShort, r'shape \(2, 8, 16, 16\) instead of \(2, 16, 8, 8\)'),
    # On the embedding that is level 1, not on a copy.
    (lambda: good(stem=Good().stem[:2], first=nn.Sequential(
        nn.ReLU(inplace=True), *Good().first)), 'in place'),
    (Leaking, 'masked pixels reach the output'),
    (Tokenless, 'places of level 1 are not the mask token'),
    (SelfishToken, 'mask tokens still have a gradient'),
    (LosingALevel, r'\(4, 8, 16\) .*got \(8, 16\)'),
    (lambda: good(classifier=nn.Linear(16, 2)),
     'no gradient reaches classifier.weight, classifier.bias'),
    (lambda: good(mask_ratio=nn.Buffer(torch.tensor(.7))),
     'does not use mask_ratio'),
    (ExtraParameter, 'does not use token'),
    (WrongOffset, r'level 1 \(stride 2\) is centred at pixel -?0.0, but '
     'receptive_field_offset says 0.5'),
    # Patches are centred in their cells, which the network does not say.
    (lambda: good(stem=nn.Conv2d(3, 4, 4, 4)),
     'centred at pixel 1.5, but receptive_field_offset says 0'),
    (lambda: good(stem=nn.Conv2d(3, 4, 3, 2)),
     r'level 1 of Good has the size \(31, 31\)'),
    # A stride of 6 after one of 4.
    (lambda: good(first=nn.Conv2d(4, 8, 3, 2, 1),
                  second=nn.AdaptiveAvgPool2d(8)),
     'depend on the size of the image'),
    (lambda: good(num_mask_tokens=4), r'in \[1, 3\], got 4'),
    (BadGradient, 'not finite: second.bias'),
    (Blind, 'differs from the plain network'),
])
def test_broken_encoders_are_caught(encoder, message):
    torch.manual_seed(0)
    with pytest.raises(ContractError, match=message):
        check_backbone_contract(encoder())


def test_error_reads_as_a_failure_in_any_test_runner():
    assert issubclass(ContractError, AssertionError)


def test_images_of_one_cell_show_nothing():
    with pytest.raises(ContractError, match='image_size 8 .*stride 8'):
        check_backbone_contract(Good(), image_size=8)


test_bad_arguments_are_refused_by_value = refuses(
    lambda **arguments: check_backbone_contract(Good(), **arguments), [
    (dict(in_channels=0), 'in_channels .* 0'),
    (dict(image_size=-64), 'image_size .* -64')])
