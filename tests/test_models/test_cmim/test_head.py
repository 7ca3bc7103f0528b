"""The loss against loops over pixels: checks 4, 11 and 12 of CMIM."""

import pytest
import torch
from mmpretrain.models.heads import SparKPretrainHead
from refusals import refuses
from test_channel_targets import naive_target

from mmmedmask.models.cmim import CMIMHead
from mmmedmask.models.cmim.head import REDUCTIONS

from .tiny import enlarged


def naive_loss(prediction, target, weight, reduction):
    """Equation 7 reduced, image by image in float64."""
    channels = prediction.shape[1]
    sums = [float((shares.double() * (one.double() - other)**2).sum())
            for one, other, shares in zip(prediction, target, weight,
                                          strict=True)]
    pixels = [float(shares.sum()) for shares in weight]
    if reduction == 'sum':
        return sum(sums) / len(sums)
    if reduction == 'batch':
        return sum(sums) / channels / max(1, sum(pixels))
    means = [total / channels / count for total, count in zip(
        sums, pixels, strict=True) if count]
    return sum(means) / max(1, len(means))


def draw(channels=3, size=(8, 12)):
    weight = torch.rand(3, 1, *size).round()
    weight[1] = 0  # an image whose views do not overlap
    return (torch.randn(3, channels, *size), torch.randn(3, channels, *size),
            weight)


@pytest.mark.parametrize('reduction', REDUCTIONS)
@pytest.mark.parametrize('channels', [1, 3, 5])
def test_loss_equals_the_equation(reduction, channels):
    prediction, target, weight = draw(channels)
    got = CMIMHead(reduction=reduction).loss(prediction, target, weight)
    want = naive_loss(prediction, target, weight, reduction)
    assert got.dtype == torch.float32
    assert float(got) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize('size', [(32, 32), (16, 48)])
def test_normalised_target_equals_sparks_head(size):
    """Check 12: norm_pix on, Theta = I, SparK's mask is the visible one."""
    spark = SparKPretrainHead(
        loss=dict(type='PixelReconstructionLoss', criterion='L2'),
        norm_pix=True, patch_size=8)
    ours = CMIMHead(norm_pix=True, patch_size=8)
    prediction = torch.randn(2, 3, *size)
    images = 3 * torch.rand(2, 3, *size) + 1
    mask = torch.rand(2, 1, size[0] // 8, size[1] // 8).round()
    weight = enlarged(mask, 8)
    torch.testing.assert_close(ours.loss(prediction, images, weight),
                               spark(prediction, images, mask == 0))
    # The other polarity is another number.
    other = spark(prediction, images, mask == 1)
    assert abs(float(other - ours.loss(prediction, images, weight))) > 1e-3


def test_statistics_per_channel_take_the_stain_out():
    head = CMIMHead(norm_pix='channel', patch_size=4)
    images = torch.rand(2, 3, 8, 12).double()
    target = head.target(images)
    stained = 3 * images + torch.tensor([5., -2., 1.]).view(3, 1, 1)
    for source, given in ((images, target), (stained, head.target(stained))):
        torch.testing.assert_close(given, naive_target(source, 4))
    # All channels together would leave their offsets in the target.
    together = CMIMHead(norm_pix=True, patch_size=4).target(stained)
    assert abs(float(together[:, 0].mean())) > 0.5
    assert abs(float(head.target(stained)[:, 0].mean())) < 1e-6


@pytest.mark.parametrize('norm_pix', [False, True, 'channel'])
def test_to_pixels_undoes_the_target(norm_pix):
    head = CMIMHead(norm_pix=norm_pix, patch_size=4)
    images = torch.randn(2, 3, 8, 12)
    torch.testing.assert_close(head.to_pixels(head.target(images), images),
                               images, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('reduction', REDUCTIONS)
def test_only_weighted_pixels_count(reduction):
    """Check 4: no gradient and no influence where the weight is 0."""
    head = CMIMHead(reduction=reduction)
    prediction, target, weight = draw()
    prediction.requires_grad_()
    loss = head.loss(prediction, target, weight)
    loss.backward()
    nowhere = (weight == 0).expand_as(prediction)
    assert not prediction.grad[nowhere].any()
    assert (prediction.grad[~nowhere] != 0).all()
    changed = torch.where(nowhere, target + 7, target)
    assert torch.equal(head.loss(prediction, changed, weight), loss)
    changed = torch.where(nowhere, target, target + 7)
    assert not torch.equal(head.loss(prediction, changed, weight), loss)


@pytest.mark.parametrize('reduction', REDUCTIONS)
def test_views_without_overlap_give_zero(reduction):
    """Check 11: no NaN, forward or backward."""
    prediction, target, weight = draw()
    prediction.requires_grad_()
    loss = CMIMHead(reduction=reduction).loss(prediction, target, 0 * weight)
    loss.backward()
    assert float(loss) == 0
    assert not prediction.grad.any()


def test_loss_is_float32_under_autocast():
    """Check 13: half precision predictions, a float32 loss."""
    prediction, target, weight = draw()
    half = prediction.bfloat16()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = CMIMHead().loss(half, target, weight)
    assert got.dtype == torch.float32
    assert torch.equal(got, CMIMHead().loss(half.float(), target, weight))


def test_sync_weight_alone_in_the_world_changes_nothing():
    parts = draw()
    assert torch.equal(
        CMIMHead(sync_weight=True).loss(*parts), CMIMHead().loss(*parts))


test_bad_arguments_are_refused_by_value = refuses(CMIMHead, [
    (dict(reduction='mean'), "'mean'"),
    (dict(reduction='image', sync_weight=True), "'image'"),
    (dict(patch_size=0), 'patch_size .* 0')])
