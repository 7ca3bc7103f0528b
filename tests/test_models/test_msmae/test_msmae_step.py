"""One training step of MSMAE against the naive one, and its invariants.

Checks 7 to 9, 11 and 12 of the method's reference.
"""

import math

import pytest
import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from model_checks import assert_near_in_bfloat16, assert_trained
from refusals import refuses

from .naive_msmae import training_step
from .tiny_msmae import (
    ARCH,
    GRID,
    INIT,
    batch,
    flags_of_pixels,
    tiny_pretraining,
)

SHARES = {'blank_share', 'blank_share_all'}
LENGTH = GRID[0] * GRID[1]


@pytest.mark.parametrize('maps', [False, True])
def test_step_equals_the_naive_one(maps):
    """Checks 8 and 12: both losses, from flags alone, in float64."""
    model = tiny_pretraining()
    images, samples = batch(maps=maps)
    losses = model.loss(images, samples)
    flags = model.partition(images, samples).flags()
    counts = [(flags == flag).sum(dim=1).tolist() for flag in (1, -1, 0)]
    want_counts = (10, 8, 6) if maps else (18, 0, 6)
    assert counts == [[count] * 4 for count in want_counts]
    labels = [int(sample.gt_label) for sample in samples]
    want_rec, want_cls = training_step(model, images, labels, flags)
    wants = dict(loss_rec=want_rec, cross_entropy=want_cls,
                 loss_cls=0.1 * want_cls)
    assert set(losses) == {*wants, *SHARES}
    for name, want in wants.items():
        assert abs(float(losses[name].detach()) - float(want)) < 1e-6


@pytest.mark.parametrize('size', [(24, 16), (12, 16), (20, 24)])
def test_images_of_another_size_than_the_decoders_are_refused(size):
    """As many patches, fewer, or more: positions would be wrong."""
    model = tiny_pretraining()
    images, samples = batch(size=size, maps=False)
    partition = model.partition(images, samples)
    for call in (lambda: model.loss(images, samples),
                 lambda: model.reconstruct(images, partition)):
        with pytest.raises(ValueError, match=r'grid of .* is for \(4, 6\)'):
            call()


def test_masks_follow_the_maps():
    """A map that is hot at the left half of a mirrored crop."""
    model = tiny_pretraining()
    images, samples = batch(count=64, hot=True)
    for sample in samples:
        # The left third of the image, mirrored: all of it is hot but a seam.
        sample.set_metainfo(dict(crop_box=(0.0, 0.0, 2 / 3, 1.0), flip=True,
                                 flip_direction='horizontal'))
    flags = model.partition(images, samples).flags().view(-1, *GRID)
    masked = (flags == 1).float().mean(dim=(0, 1))
    # The image's left half is the mirrored crop's right half.
    assert masked[3:].min() > 2 * masked[:2].max()


def test_thrown_pixels_play_no_part():
    """Check 7: no gradient, and other pixels give the very same loss."""
    model = tiny_pretraining()
    images, samples = batch()
    pixels = flags_of_pixels(model.partition(images, samples), images)
    images.requires_grad_()
    losses = model.loss(images, samples)
    loss = losses['loss_rec'] + losses['loss_cls']
    gradient, = torch.autograd.grad(loss, images)
    assert gradient[pixels == -1].abs().max() == 0
    assert (gradient[pixels == 1] != 0).float().mean() > 0.99
    assert (gradient[pixels == 0] != 0).float().mean() > 0.99
    changed = torch.where(pixels == -1, torch.rand(images.shape), images)
    again = model.loss(changed.detach(), samples)
    for name, value in again.items():
        assert torch.equal(value, losses[name])


def test_the_released_codes_step_draws_by_chance_and_softmaxes_twice():
    """Maps decide when 45 / 30 begins and nothing else."""
    model = tiny_pretraining(masking='random', head=dict(softmax_twice=True))
    images, samples = batch(count=256, hot=True)
    flags = model.partition(images, samples).flags()
    for flag, count in ((1, 10), (-1, 8), (0, 6)):
        assert ((flags == flag).sum(dim=1) == count).all()
        share, chance = (flags == flag).float().mean(dim=0), count / 24
        limit = 4.5 * math.sqrt(chance * (1 - chance) / 256)
        assert (share - chance).abs().max() < limit
    _, bare = batch(count=256, maps=False)
    assert ((model.partition(images, bare).flags() == 1).sum(1) == 18).all()
    token, labels = torch.rand(3, ARCH['embed_dims']), [0, 1, 2]
    got = model.head.classification_loss(token, samples[:3])
    want = 0.0
    for logits, label in zip(model.head.fc(token).tolist(), labels,
                             strict=True):
        for _ in range(2):
            powers = [math.exp(logit) for logit in logits]
            logits = [power / sum(powers) for power in powers]
        want -= math.log(logits[label]) / 3
    assert abs(float(got.detach()) - want) < 1e-6


@pytest.mark.parametrize('twice', [False, True])
def test_class_loss_is_on_logits(twice):
    """Check 9: ln C at zero logits; at sure ones 0, or ln(1 + 2/e)."""
    head = tiny_pretraining(head=dict(softmax_twice=twice)).head
    _, samples = batch(count=3)
    token = torch.zeros(3, ARCH['embed_dims'])
    with torch.no_grad():
        head.fc.bias.zero_()
        head.fc.weight.zero_()[:, :3] = 1000 * torch.eye(3)
        zero = head.classification_loss(token, samples)
        token[:, :3] = torch.eye(3)
        sure = head.classification_loss(token, samples)
    assert abs(float(zero) - math.log(3)) < 1e-6
    assert abs(float(sure) - twice * math.log(1 + 2 / math.e)) < 1e-6


@pytest.mark.parametrize('maps', [False, True])
def test_blank_shares_count_flat_patches(maps):
    """Among the visible patches and among all, by loops."""
    model = tiny_pretraining()
    images, samples = batch(maps=maps)
    images[:, :, :8, :12] = 0.5
    losses = model.loss(images, samples)
    flags = model.partition(images, samples).flags().view(-1, *GRID)
    flat = visible = 0
    for one in flags.tolist():
        for row in range(4):
            for column in range(6):
                if one[row][column] == 0:
                    visible += 1
                    flat += row < 2 and column < 3
    assert float(losses['blank_share']) == pytest.approx(flat / visible)
    assert float(losses['blank_share_all']) == pytest.approx(.25)


def mmpretrain_mae(norm_pix):
    """mmpretrain's MAE of the same size, on a square image."""
    torch.manual_seed(0)
    model = MODELS.build(dict(
        type='MAE',
        data_preprocessor=dict(type='SelfSupDataPreprocessor'),
        backbone=dict(type='MAEViT', arch=dict(ARCH), img_size=24,
                      patch_size=4, out_indices=[1], mask_ratio=0.75),
        neck=dict(type='MAEPretrainDecoder', num_patches=36, patch_size=4,
                  in_chans=3, embed_dim=ARCH['embed_dims'],
                  decoder_embed_dim=16, decoder_depth=2, decoder_num_heads=2),
        head=dict(type='MAEPretrainHead', norm_pix=norm_pix, patch_size=4,
                  loss=dict(type='PixelReconstructionLoss', criterion='L2')),
        init_cfg=INIT))
    model.init_weights()
    return model


@pytest.mark.parametrize('norm_pix', [False, True])
def test_without_attention_it_is_mmpretrains_mae(norm_pix, monkeypatch):
    """Check 11: same weights, same ids: the same loss, and gradients."""
    mae = mmpretrain_mae(norm_pix)
    ours = tiny_pretraining(backbone=dict(img_size=24),
                            head=dict(cls_weight=0, norm_pix=norm_pix))
    weights = mae.state_dict()
    missing, unexpected = ours.load_state_dict(weights, strict=False)
    assert missing == []
    assert unexpected == []
    images, samples = batch(size=(24, 24), maps=False)
    flags = ours.partition(images, samples).flags()

    def as_ours(tokens, mask_ratio):
        order = flags.argsort(dim=1, stable=True)  # visible first
        kept = order[:, :int(flags.shape[1] * (1 - mask_ratio))]
        index = kept[..., None].expand(-1, -1, tokens.shape[2])
        return tokens.gather(1, index), flags.float(), order.argsort(dim=1)

    monkeypatch.setattr(mae.backbone, 'random_masking', as_ours)
    want = mae.loss(images, [DataSample() for _ in samples])['loss']
    got = ours.loss(images, samples)
    assert set(got) == {'loss_rec', *SHARES}
    assert abs(float(got['loss_rec'] - want)) < 1e-6
    want.backward()
    got['loss_rec'].backward()
    theirs = dict(mae.named_parameters())
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            assert torch.allclose(parameter.grad, theirs[name].grad,
                                  atol=1e-6), name


def test_every_parameter_has_a_gradient():
    model = tiny_pretraining()
    losses = model.loss(*batch())
    (losses['loss_rec'] + losses['loss_cls']).backward()
    assert_trained(model)
    assert {name for name, one in model.named_parameters()
            if not one.requires_grad} == {'backbone.pos_embed',
                                          'neck.decoder_pos_embed'}


@pytest.mark.parametrize('norm_pix', [False, True, 'channel'])
def test_reconstruction_keeps_what_was_not_masked(norm_pix):
    """A perfect one is the image: norm_pix puts statistics back."""
    model = tiny_pretraining(head=dict(norm_pix=norm_pix)).eval()
    images, samples = batch()
    partition = model.partition(images, samples)
    with torch.no_grad():
        filled = model.reconstruct(images, partition)
    masked = flags_of_pixels(partition, images) == 1
    assert torch.equal(filled[~masked], images[~masked])
    assert (filled[masked] != images[masked]).float().mean() > 0.99
    target = model.head.target(images, partition.masked)
    assert float(model.head.reconstruction_loss(
        target, images, partition.masked)) == 0
    filled = model.head.fill_in(images, target, partition.masked)
    assert (filled - images).abs().max() < 1e-5


def test_draws_depend_on_seed_iteration_and_sample_only(run_state):
    model = tiny_pretraining()
    images, samples = batch()
    first = model.partition(images, samples).flags()
    assert torch.equal(first, model.partition(images, samples).flags())
    alone = model.partition(images[2:3], samples[2:3]).flags()
    assert torch.equal(alone[0], first[2])
    for iteration, seed in ((1, 5), (0, 6)):
        run_state['iter'], model.seed = iteration, seed
        assert not torch.equal(first, model.partition(images, samples).flags())


def test_bfloat16_step_is_close_and_losses_are_float32():
    model, (images, samples) = tiny_pretraining(), batch()
    assert_near_in_bfloat16(lambda: model.loss(images, samples), .05)


@pytest.mark.parametrize(('channels', 'size', 'patch'), [
    (1, (32, 32), 8), (5, (16, 64), 16), (3, (64, 32), 32), (2, 24, 4)])
def test_other_shapes(channels, size, patch):
    model = tiny_pretraining(
        backbone=dict(img_size=size, patch_size=patch, in_channels=channels),
        mask_ratio=0.5, throw_ratio=0.0, random_mask_ratio=0.5)
    size = (size, size) if isinstance(size, int) else size
    images, samples = batch(channels=channels, size=size)
    losses = model.loss(images, samples)
    assert math.isfinite(float(losses['loss_rec'].detach()))
    maps = model.attention_maps(images)
    assert maps.shape == (4, size[0] // patch, size[1] // patch)


def test_without_class_loss_no_labels_are_needed():
    model = tiny_pretraining(head=dict(cls_weight=0, num_classes=None))
    losses = model.loss(*batch(labels=False))
    assert set(losses) == {'loss_rec', *SHARES}


@pytest.mark.parametrize(('change', 'text'), [
    (lambda sample: sample.set_metainfo(dict(crop_box=None)),
     'RandomResizedCrop'),
    (lambda sample: sample.set_metainfo(dict(sample_idx=None)), 'sample_idx'),
    (lambda sample: sample.set_metainfo(dict(
        flip=True, flip_direction='sideways')), 'sideways'),
    (lambda sample: sample.set_metainfo(dict(flip=True)),
     r"2\.png must be one of \('horizontal'.*, got None"),
    (lambda sample: sample.pop('attention_map'), r'1 of 4 .* 2\.png'),
    (lambda sample: sample.pop('gt_label'), r'2\.png has the gt_label None'),
    (lambda sample: sample.set_gt_label(3), r'2\.png has the gt_label \[3\]')])
def test_bad_samples_are_refused(change, text):
    images, samples = batch()
    change(samples[2])
    with pytest.raises(ValueError, match=text):
        tiny_pretraining().loss(images, samples)


test_bad_arguments = refuses(tiny_pretraining, [
    (dict(mask_ratio=0.7, throw_ratio=0.3), 'throw_ratio 0.3'),
    (dict(mask_ratio=-0.1), '-0.1'),
    (dict(mask_ratio=0.01), '0.01 masks none'),
    (dict(random_mask_ratio=0.0), '0.0 masks none'),
    (dict(weight_norm='softmax'), 'softmax'),
    (dict(backbone=dict(out_type='cls_token')), 'cls_token'),
    *((dict(backbone=dict(out_indices=indices)), 'out_indices must be -1')
      for indices in ([0], [0, -1])),
    (dict(backbone=dict(patch_size=5)), r'\(5, 5\)'),
    (dict(head=dict(cls_weight=-1)), '-1'),
    (dict(head=dict(num_classes=None)), 'num_classes'),
    (dict(head=dict(num_classes=1)), 'num_classes'),
    (dict(neck=dict(num_layers=0)), 'num_layers'),
    (dict(data_preprocessor=dict(num_classes=3, batch_augments=dict(
        augments=[dict(type='Mixup', alpha=0.8)]))), 'Mixup')])


def test_images_that_patches_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r'\(16, 26\)'):
        tiny_pretraining().loss(*batch(size=(16, 26)))
