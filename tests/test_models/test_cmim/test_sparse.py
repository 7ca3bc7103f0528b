"""SparK's sparse encoder as CMIM's ablation: check 21."""

import copy
import pickle

import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmpretrain.models import ResNet, SparseResNet
from mmpretrain.models.utils.sparse_modules import SparseHelper
from torch import nn

from mmmedmask.functional.affine import relative_theta
from mmmedmask.models.cmim import CMIMSparseResNet
from mmmedmask.models.cmim.sparse import VisibleContext

from .tiny import (
    CHANNELS,
    drawn_inputs,
    enlarged,
    tiny_model,
    trained_norms,
)

WIDTHS = (8, 8, 16, 32, 64)
ALL_STAGES = dict(depth=18, out_indices=(0, 1, 2, 3), **CHANNELS)


def build(**changes):
    torch.manual_seed(1)
    return trained_norms(CMIMSparseResNet(**{**ALL_STAGES, **changes}))


def with_plain(kind=ResNet, training=False, **options):
    """An encoder, and another network of the same weights."""
    encoder = build()
    plain = kind(**ALL_STAGES, **options)
    plain.load_state_dict(encoder.state_dict())
    assert list(encoder.state_dict()) == list(plain.state_dict())
    encoder.train(training)
    plain.train(training)
    return encoder, plain


def tokens():
    return [torch.randn(1, width, 1, 1) for width in WIDTHS]


def half_mask(count=2, size=(2, 2)):
    """Masks with at least one visible and one masked patch each."""
    mask = torch.rand(count, 1, *size).round()
    mask[:, :, 0, 0], mask[:, :, -1, -1] = 0, 1
    return mask


@pytest.mark.parametrize('training', [False, True])
def test_nothing_masked_is_the_dense_encoder(training):
    """Check 21: with every patch visible, sparse equals dense."""
    encoder, plain = with_plain(training=training)
    images = torch.randn(2, 3, 64, 64)
    sparse = encoder(images, torch.zeros(2, 1, 2, 2), tokens())
    for ours, theirs in zip(sparse[1:], plain(images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(
            encoder.state_dict()[name], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('training', [False, True])
def test_without_a_mask_it_is_the_dense_network(training):
    encoder, plain = with_plain(training=training)
    images = torch.randn(2, 3, 64, 64)
    # Also after a sparse pass: nothing of it may stay.
    with torch.no_grad():
        copy.deepcopy(encoder)(images, half_mask(), tokens())
    for ours, theirs in zip(encoder(images), plain(images), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('training', [False, True])
def test_features_are_those_of_sparks_encoder(training):
    """Check 21: mmpretrain's SparseResNet, the same weights and mask."""
    encoder, spark = with_plain(SparseResNet, training,
                                norm_cfg=dict(type='BN'))
    images, mask = torch.randn(2, 3, 64, 64), half_mask()
    levels = encoder(images, mask, tokens())
    SparseHelper._cur_active = mask == 0
    try:
        theirs = spark(images * (1 - enlarged(mask, 32)))
    finally:
        SparseHelper._cur_active = None
    for ours, other in zip(levels[1:], theirs, strict=True):
        seen = enlarged(mask == 0, other.shape[-1] // 2).expand_as(other)
        torch.testing.assert_close(
            ours[seen], other[seen], rtol=1e-4, atol=1e-5)
        assert not other[~seen].any()
    for name, value in spark.state_dict().items():
        torch.testing.assert_close(
            encoder.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_every_level_has_its_own_token_at_masked_places():
    encoder = build()
    encoder.eval()
    mask, each = half_mask(), tokens()
    levels = encoder(torch.randn(2, 3, 64, 64), mask, each)
    for level, token in zip(levels, each, strict=True):
        masked = enlarged(mask.bool(), level.shape[-1] // 2).expand_as(level)
        assert torch.equal(level[masked], token.expand_as(level)[masked])
        assert not torch.equal(level[~masked], token.expand_as(level)[~masked])


def test_warped_maps_carry_the_tokens():
    """Check 21: maps are densified before the warp, not after it."""
    model = tiny_model(
        backbone=dict(type='mmmedmask.CMIMSparseResNet'),
        data_preprocessor=dict(view_size=64, patch_size=32),
        neck=dict(out_stride=32, feat_align='cell', warp_impl='grid'),
        head=dict(patch_size=32))
    assert [tuple(token.shape) for token in model.mask_tokens] == [
        (1, width, 1, 1) for width in WIDTHS]
    model.eval()
    inputs = drawn_inputs(model)
    theta = relative_theta(inputs['theta_query'], inputs['theta_key'])
    with torch.no_grad():
        for token in model.mask_tokens:
            token.fill_(1000.)
        levels = model.encode(inputs['query'], inputs['mask'])
        warped = model.neck.warp(levels, theta, inputs['separable'])
    # The coarsest map has one cell per patch, so a warped cell is a mean of
    # tokens (1000 each), visible features (far smaller) and nothing.
    share = torch.nn.functional.grid_sample(
        inputs['mask'], torch.nn.functional.affine_grid(
            theta[:, :2], [4, 1, 2, 2], align_corners=False),
        padding_mode='border', align_corners=False)
    inside = warped[-1].abs().sum(dim=1, keepdim=True) > 0
    assert inside.any()
    got = warped[-1].mean(dim=1, keepdim=True) / 1000
    torch.testing.assert_close(got[inside], share[inside], rtol=0, atol=.02)
    loss = model.loss(inputs)['loss']
    loss.backward()
    for token in model.mask_tokens:
        assert token.grad.any()


def test_copies_are_sparse_by_themselves():
    encoder = build()
    encoder.eval()
    images, mask, each = torch.randn(2, 3, 64, 64), half_mask(), tokens()
    wanted = encoder(images, mask, each)
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        # The copy has to use its own mask, whatever the original does.
        with encoder._context.open(1 - mask):
            got = other(images, mask, each)
        for one, want in zip(got, wanted, strict=True):
            assert torch.equal(one, want)


def test_exchanged_norms_stay_sparse():
    """A runner turns SyncBN into BN on a CPU, and sync_bn the other way."""
    encoder = build(norm_cfg=dict(type='BN'))
    images, mask, each = torch.randn(2, 3, 64, 64), half_mask(), tokens()
    encoder.train()
    wanted = copy.deepcopy(encoder)(images, mask, each)
    exchanged = revert_sync_batchnorm(
        nn.SyncBatchNorm.convert_sync_batchnorm(encoder))
    for one, want in zip(exchanged(images, mask, each), wanted, strict=True):
        assert torch.equal(one, want)


def test_context_closes_after_an_error():
    context = VisibleContext()

    def fail():
        with context.open(torch.ones(1, 1, 2, 2)):
            assert not context.visible(torch.zeros(1, 3, 4, 4)).any()
            raise RuntimeError('broken')

    with pytest.raises(RuntimeError, match='broken'):
        fail()
    assert context.visible(torch.zeros(1, 3, 4, 4)) is None


def test_bad_arguments_are_refused_by_value():
    with pytest.raises(ValueError, match='GroupNorm'):
        build(norm_cfg=dict(type='GN', num_groups=4))
    with pytest.raises(ValueError, match='with_cp must be False, got True'):
        build(with_cp=True)
    # Patches smaller than a cell of the coarsest level cannot be sparse.
    with pytest.raises(ValueError, match='patch_size .* stride 32, got 16'):
        tiny_model(backbone=dict(type='mmmedmask.CMIMSparseResNet'))
    with pytest.raises(ValueError, match=r'\(2, 2\)'):
        build()(torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 4, 4), tokens())
