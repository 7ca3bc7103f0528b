"""Encoders: the plain network without a mask, the token with one.

Checks 1 and 2 of CMIM, and the geometry of the levels.
"""

import copy
from operator import call

import mmpretrain.models
import pytest
import torch
from refusals import refuses

from mmmedmask.models.cmim import (
    CMIMConvNeXt,
    CMIMResNet,
    CMIMResNetV1c,
    CMIMResNetV1d,
    Levels,
    MaskedBackbone,
    insert_mask_token,
    probe_levels,
)

from .tiny import CHANNELS, enlarged, trained_norms

CONVNEXT = dict(arch=dict(depths=[1, 1, 2, 1], channels=[8, 16, 32, 64]),
                out_indices=(0, 1, 2, 3), gap_before_final_norm=False)
ALL_STAGES = dict(out_indices=(0, 1, 2, 3), **CHANNELS)
ENCODERS = {
    'ResNet-18': (CMIMResNet, 'ResNet', dict(depth=18, **ALL_STAGES)),
    'ResNet-34': (CMIMResNet, 'ResNet', dict(depth=34, **ALL_STAGES)),
    'ResNet-50': (CMIMResNet, 'ResNet', dict(depth=50, **ALL_STAGES)),
    'ResNetV1c-50': (CMIMResNetV1c, 'ResNetV1c', dict(depth=50, **ALL_STAGES)),
    'ResNetV1d-18': (CMIMResNetV1d, 'ResNetV1d', dict(depth=18, **ALL_STAGES)),
    'ConvNeXt': (CMIMConvNeXt, 'ConvNeXt', CONVNEXT)}
every_encoder = pytest.mark.parametrize('name', ENCODERS)


def build(name, **changes):
    encoder, _, arguments = ENCODERS[name]
    torch.manual_seed(1)
    encoder = trained_norms(encoder(**{**arguments, **changes}))
    encoder.eval()
    return encoder


def assert_all_equal(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


@every_encoder
def test_without_a_mask_it_is_mmpretrains_network(name):
    """Check 1: the same keys, and the same output bit for bit."""
    encoder = build(name)
    _, plain, arguments = ENCODERS[name]
    plain = getattr(mmpretrain.models, plain)(**arguments)
    assert list(encoder.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(encoder.state_dict())
    images = torch.randn(2, 3, 64, 64)
    for training in (False, True):
        encoder.train(training)
        plain.train(training)
        assert_all_equal(encoder(images), plain(images))
    encoder.eval()
    plain.eval()
    assert_all_equal(encoder.forward_stages(encoder.forward_stem(images)),
                     plain(images))


@pytest.mark.parametrize('depth', [18, 50])
def test_without_a_mask_it_is_mmdets_network(depth):
    """Check 1: a detector's backbone takes the weights as they are."""
    mmdet = pytest.importorskip('mmdet.models.backbones')
    encoder = build(f'ResNet-{depth}')
    plain = mmdet.ResNet(depth=depth, **ALL_STAGES)
    plain.load_state_dict(encoder.state_dict(), strict=True)
    plain.eval()
    images = torch.randn(2, 3, 64, 96)
    assert_all_equal(encoder(images), plain(images))


@every_encoder
def test_nothing_masked_is_the_plain_network(name):
    """Check 2: z_1 is the stem's output, and the token is not used."""
    encoder = build(name)
    images = torch.randn(2, 3, 64, 64)
    channels = probe_levels(encoder, 3).channels
    token = torch.randn(1, channels[0], 1, 1, requires_grad=True)
    levels = encoder(images, torch.zeros(2, 1, 2, 2), [token])
    assert_all_equal(levels, (encoder.forward_stem(images), *encoder(images)))
    sum(level.sum() for level in levels).backward()
    assert token.grad is None or not token.grad.any()


@pytest.mark.parametrize(('mask_at', 'stride'), [('conv1', 2), ('maxpool', 4)])
def test_token_is_put_in_after_the_stem(mask_at, stride):
    """Check 2, in between: place by place, on both sides of the pooling."""
    encoder = build('ResNet-18', mask_at=mask_at)
    images = torch.randn(2, 3, 64, 96)
    mask = torch.rand(2, 1, 4, 6).round()
    token = torch.randn(1, 8, 1, 1)
    levels = encoder(images, mask, [token])
    visible = images.masked_fill(enlarged(mask, 16).bool(), 0)
    stem = encoder.relu(encoder.norm1(encoder.conv1(visible)))
    if mask_at == 'maxpool':
        stem = encoder.maxpool(stem)
    masked = enlarged(mask, 16 // stride).bool()
    assert torch.equal(levels[0], torch.where(masked, token, stem))
    assert probe_levels(encoder, 3).strides == (stride, 4, 8, 16, 32)
    assert [64 // level.shape[2] for level in levels] == [stride, 4, 8, 16, 32]
    half = insert_mask_token(stem.bfloat16(), mask, token)
    assert torch.equal(half, levels[0].bfloat16())


@pytest.mark.parametrize('memory_format',
                         [torch.contiguous_format, torch.channels_last])
def test_insert_mask_token_has_the_gradients_of_a_choice(memory_format):
    """The same as ``torch.where``, in both memory formats."""
    features = torch.randn(2, 4, 6, 9, dtype=torch.float64)
    features = features.contiguous(memory_format=memory_format)
    mask = torch.rand(2, 1, 2, 3, dtype=torch.float64).round()
    masked = enlarged(mask, 3).bool()
    direction = torch.randn_like(features)
    results = []
    for insert in (lambda x, token: insert_mask_token(x, mask, token),
                   lambda x, token: torch.where(masked, token, x)):
        leaf = features.clone().requires_grad_()
        token = torch.linspace(
            -1, 1, 4, dtype=torch.float64).view(1, 4, 1, 1).requires_grad_()
        output = insert(leaf, token)
        (output * direction).sum().backward()
        results.append((output.detach(), leaf.grad, token.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    torch.testing.assert_close(results[0][2], results[1][2])
    output = insert_mask_token(features, mask, torch.zeros(1, 4, 1, 1))
    assert output.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize(('name', 'levels'), [
    ('ResNet-18', Levels((8, 8, 16, 32, 64), (2, 4, 8, 16, 32), (0., ) * 5)),
    ('ResNet-50',
     Levels((8, 32, 64, 128, 256), (2, 4, 8, 16, 32), (0., ) * 5)),
    ('ResNetV1d-18',
     Levels((8, 8, 16, 32, 64), (2, 4, 8, 16, 32), (0., 0., 1., 3., 7.))),
    ('ConvNeXt',
     Levels((8, 8, 16, 32, 64), (4, 4, 8, 16, 32),
            (1.5, 1.5, 3.5, 7.5, 15.5))),
])
def test_levels_are_measured(name, levels):
    encoder = build(name)
    encoder.train()
    before = copy.deepcopy(encoder.state_dict())
    assert probe_levels(encoder, 3) == levels
    assert encoder.training
    assert_all_equal(encoder.state_dict().values(), before.values())
    for in_channels in (1, 5):
        encoder = build(name, in_channels=in_channels)
        assert probe_levels(encoder, in_channels) == levels


@pytest.mark.filterwarnings('ignore:.*weight_norm')
def test_levels_are_measured_on_the_encoder_itself():
    """One that cannot be copied; each module keeps its mode."""
    encoder = build('ResNet-18')
    encoder.train()
    torch.nn.utils.weight_norm(encoder.layer1[0].conv1)
    encoder.layer2.eval()
    modes = [module.training for module in encoder.modules()]
    assert probe_levels(encoder, 3).strides == (2, 4, 8, 16, 32)
    assert modes == [module.training for module in encoder.modules()]


class Uneven(MaskedBackbone, torch.nn.Module):
    """Its stage has no whole stride."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def forward_stem(self, images):
        return self.conv(images)

    def forward_stages(self, embedding):
        return (embedding, )


test_bad_arguments_are_refused_by_value = refuses(call, [
    (lambda: CMIMResNet(18, mask_at='layer1'), "'layer1'"),
    (lambda: CMIMResNetV1c(depth=50, mask_at=None), 'None'),
    (lambda: CMIMResNetV1d(depth=50, mask_at='stem'), "'stem'"),
    (lambda: CMIMConvNeXt(gap_before_final_norm=True), 'True'),
    (lambda: probe_levels(torch.nn.Conv2d(3, 4, 3), 3), 'Conv2d'),
    (lambda: probe_levels(Uneven(), 3), r'level 1 of Uneven .*\(62, 62\)'),
    (lambda: Uneven()(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 2, 2)),
     'one mask token, got 0')])
