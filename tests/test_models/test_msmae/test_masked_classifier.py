"""The masked classifier: checks 13, 14 and 19 of the method's reference."""

import copy

import pytest
import torch
from mmpretrain.registry import MODELS
from refusals import refuses
from torch.utils.flop_counter import FlopCounterMode

from mmmedmask.models.msmae import patch_logits

from .tiny_msmae import (
    ARCH,
    IMAGE_SIZE,
    batch,
    flags_of_pixels,
    tiny_classifier,
)


def plain_classifier(out_type='avg_featmap'):
    """mmpretrain's own ViT and classifier of the same size."""
    return MODELS.build(dict(
        type='ImageClassifier',
        backbone=dict(type='VisionTransformer', arch=dict(ARCH),
                      img_size=IMAGE_SIZE, patch_size=4, out_type=out_type,
                      out_indices=[1], final_norm=out_type == 'cls_token'),
        head=dict(type='LinearClsHead', num_classes=3,
                  in_channels=ARCH['embed_dims'],
                  loss=dict(type='CrossEntropyLoss'))))


@pytest.mark.parametrize('out_type', ['avg_featmap', 'cls_token'])
def test_test_time_is_a_plain_vit_bit_for_bit(out_type):
    """Check 13: maps or not, all tokens are used."""
    model = tiny_classifier(backbone=dict(
        out_type=out_type, final_norm=out_type == 'cls_token')).eval()
    plain = plain_classifier(out_type).eval()
    plain.load_state_dict(model.state_dict())
    images, samples = batch()
    with torch.no_grad():
        want = plain.predict(images, copy.deepcopy(samples))
        got = model.predict(images, copy.deepcopy(samples))
    for one, two in zip(got, want, strict=True):
        assert torch.equal(one.pred_score, two.pred_score)


def test_without_masking_training_is_a_plain_vit_bit_for_bit():
    """Check 13: losses and gradients."""
    model = tiny_classifier(mask_ratio=0.0, throw_ratio=0.0)
    plain = plain_classifier()
    plain.load_state_dict(model.state_dict())
    for maps in (True, False):
        images, samples = batch(maps=maps)
        got = model.loss(images, samples)['loss']
        want = plain.loss(images, samples)['loss']
        assert torch.equal(got, want)
    got.backward()
    want.backward()
    theirs = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, theirs[name].grad), name


def test_all_tokens_listed_are_all_tokens():
    """The masked path itself, with every token visible."""
    model = tiny_classifier().eval()
    images, _ = batch()
    ids = torch.arange(24).expand(4, -1)
    with torch.no_grad():
        got, want = model.backbone(images, ids)[0], model.backbone(images)[0]
    assert (got - want).abs().max() < 1e-6


def test_training_sees_visible_tokens_only():
    model = tiny_classifier()
    images, samples = batch()
    partition = model.partition(images, samples)
    assert [(partition.flags() == flag).sum(1).tolist()
            for flag in (1, -1, 0)] == [[10] * 4, [8] * 4, [6] * 4]
    pixels = flags_of_pixels(partition, images)
    images.requires_grad_()
    model.loss(images, samples)['loss'].backward()
    assert images.grad[pixels != 0].abs().max() == 0
    assert (images.grad[pixels == 0] != 0).float().mean() > 0.99


@pytest.mark.parametrize('out_type', ['avg_featmap', 'cls_token'])
def test_pooling_decides_whether_the_last_map_is_trained(out_type):
    """Check 14: with average pooling nothing asks the last class token."""
    trained = out_type == 'cls_token'
    model = tiny_classifier(backbone=dict(
        out_type=out_type, final_norm=trained))
    # The class token's query is the only use of its row.
    seen = []
    model.backbone.layers[-1].attn.register_full_backward_hook(
        lambda module, inputs, outputs: seen.append(outputs[0][:, 0]))
    model.loss(*batch())['loss'].backward()
    assert (seen[0].abs().max() > 0) == trained


def test_random_masking_needs_no_maps():
    model = tiny_classifier(masking='random')
    images, samples = batch(maps=False)
    assert model.partition(images, samples).visible.shape == (4, 6)
    with_maps, other = batch(maps=True)
    assert torch.equal(model.partition(images, samples).flags(),
                       model.partition(with_maps, other).flags())


def shares_of_hot(model, images, samples):
    """How often the 8 hot patches of 24 are masked, thrown, visible."""
    flags = model.partition(images, samples).flags().view(-1, 4, 6)
    return [(flags[:, :, :2] == flag).float().mean().item()
            for flag in (1, -1, 0)]


def test_what_follows_attention_inversely_sees_what_is_attended():
    images, samples = batch(count=64, hot=True)
    # 10 of 24 are masked, 8 thrown, 6 visible; 8 are hot, up to a seam.
    masked, _, visible = shares_of_hot(tiny_classifier(), images, samples)
    assert masked > .9
    assert visible < .05
    masked, thrown, visible = shares_of_hot(
        tiny_classifier(masking='inverse_attention'), images, samples)
    assert masked < .05
    assert thrown + visible > .95
    assert visible > .55


def in_epoch(monkeypatch, epoch, max_epochs):
    info = dict(seed=0, iter=0, epoch=epoch, max_epochs=max_epochs)
    for module in ('msmae.classifier', 'layers.data_samples'):
        monkeypatch.setattr(f'mmmedmask.models.{module}.run_info', info.get)


def test_the_last_epochs_see_all_tokens(monkeypatch):
    model = tiny_classifier(all_token_epochs=2).eval()
    plain = tiny_classifier(mask_ratio=0.0, throw_ratio=0.0).eval()
    images, samples = batch()
    want = plain.loss(images, samples)['loss']
    seen = []
    for epoch in range(5):
        in_epoch(monkeypatch, epoch, 5)
        losses = model.loss(images, samples)
        seen.append(torch.equal(losses['loss'], want))
        assert ('blank_share' in losses) == (epoch < 3)
    assert seen == [False] * 3 + [True] * 2
    in_epoch(monkeypatch, 0, 0)
    assert not model.is_all_token_epoch()
    # A run by iterations has one epoch.
    in_epoch(monkeypatch, 0, 2)
    with pytest.raises(ValueError, match='2 leaves none of 2 epochs'):
        model.loss(images, samples)


@pytest.mark.parametrize('test_tokens', ['random', 'attention',
                                         'inverse_attention'])
def test_some_tokens_in_the_test(test_tokens):
    """As many as in training, drawn from the image's own map."""
    model = tiny_classifier(test_tokens=test_tokens).eval()
    images, samples = batch(maps=False)
    with torch.no_grad():
        got = model.predict(images, copy.deepcopy(samples))
        maps = model.attention_maps(images)
        # What training draws from such a map of the whole image.
        trained = tiny_classifier(masking=test_tokens)
        features = model.backbone(images, trained.draw(
            images, samples, maps.flatten(1), (.45, .3), test_tokens).visible)
        want = model.head.predict(features, copy.deepcopy(samples))
        other = tiny_classifier().eval().predict(
            images, copy.deepcopy(samples))
    for one, two, three in zip(got, want, other, strict=True):
        assert torch.equal(one.pred_score, two.pred_score)
        assert not torch.equal(one.pred_score, three.pred_score)


def test_class_activation_adds_up_to_the_logit():
    """And needs pooled tokens."""
    model = tiny_classifier().eval()
    with torch.no_grad():
        for parameter in (*model.backbone.ln2.parameters(),
                          *model.head.fc.parameters()):
            parameter.uniform_(-1, 1)
    images, samples = batch()
    classes = torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        parts = patch_logits(model, images, classes)
        logits = model.head.fc(model.backbone(images)[0])
        maps = model.class_activation_maps(images, samples)
    weights = model.head.fc.weight
    for image, label in enumerate(classes.tolist()):
        constant = weights[label] @ model.backbone.ln2.bias + \
            model.head.fc.bias[label]
        got = float((sum(parts[image]) + constant).detach())
        assert got == pytest.approx(float(logits[image, label]), abs=1e-5)
    assert (parts < 0).any()
    assert torch.equal(maps.flatten(1), parts.clamp_min(0))
    token = tiny_classifier(
        backbone=dict(out_type='cls_token', final_norm=True))
    with pytest.raises(ValueError, match="avg_featmap', got 'cls_token'"):
        token.class_activation_maps(images, samples)


test_bad_arguments = refuses(tiny_classifier, [
    (dict(masking='sam'), 'sam'),
    (dict(weight_norm='none'), 'none'),
    (dict(all_token_epochs=-1), 'all_token_epochs must .* -1'),
    (dict(test_tokens='some'), 'test_tokens.*some'),
    (dict(mask_ratio=0., throw_ratio=0., test_tokens='random'), 'above 0'),
    (dict(mask_ratio=0., throw_ratio=0., all_token_epochs=1), 'above 0'),
    (dict(mask_ratio=0.5, throw_ratio=0.5), '0.5'),
    (dict(train_cfg=dict(augments=[dict(type='CutMix', alpha=1.0)]),
          data_preprocessor=dict(num_classes=3)), 'CutMix')])


def test_what_the_model_cannot_do_is_refused():
    images, samples = batch(maps=False)
    with pytest.raises(ValueError, match='AttentionMaskHook'):
        tiny_classifier().loss(images, samples)
    model = tiny_classifier(backbone=dict(out_type='featmap'))
    with pytest.raises(ValueError, match='featmap'):
        model.backbone(images, torch.zeros(4, 2).long())
    with pytest.raises(ValueError, match='ResNet'):
        MODELS.build(dict(
            type='mmmedmask.MSMAEClassifier',
            backbone=dict(type='ResNet', depth=18),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=512)))


def test_feature_maps_and_the_list_of_layers():
    layers = [0, -1]
    model = tiny_classifier(
        backbone=dict(out_type='featmap', out_indices=layers))
    assert layers == [0, -1]
    images, _ = batch()
    features = model.backbone(images)
    assert [one.shape for one in features] == [(4, 32, 4, 6)] * 2


def count_flops(function):
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def test_positions_of_a_grid_that_is_no_square_are_refused():
    """mmpretrain would take 8 positions for a 2 x 2 grid."""
    source = tiny_classifier(backbone=dict(img_size=(8, 16))).backbone
    target = tiny_classifier().backbone
    with pytest.raises(ValueError, match='pos_embed of the checkpoint is of 8 '
                       'patches, which is not a square, .* has 4 x 6: .*'
                       '--source-grid'):
        target.load_state_dict(source.state_dict())
    square = tiny_classifier(backbone=dict(img_size=(16, 16))).backbone
    target.load_state_dict(square.state_dict())
    same = tiny_classifier(seed=1).backbone
    same.load_state_dict(target.state_dict())
    assert torch.equal(same.pos_embed, target.pos_embed)


@pytest.mark.parametrize(('size', 'fixed', 'target', 'words'), [
    ((8, 32), True, (16, 64), 'of 2 x 8 patches, .* 4 x 16: .*--source-grid'),
    ((8, 32), True, (16, 16), 'of 2 x 8 patches, and the model has 4 x 4'),
    ((16, 16), True, (8, 32), 'of 4 x 4 patches, and the model has 2 x 8'),
    ((8, 32), False, (16, 64), 'which may be 4 x 4 or 2 x 8'),
    ((8, 32), True, (8, 32), None), ((8, 32), False, (8, 32), None),
    ((16, 16), True, (16, 64), None), ((16, 16), False, (16, 24), None),
    ((16, 16), True, (8, 8), None), ((16, 16), False, (8, 8), None)])
def test_positions_of_as_many_patches_as_a_square(size, fixed, target, words):
    source, wanted = (tiny_classifier(backbone=dict(
        img_size=one, fixed_pos_embed=fixed)).backbone
        for one in (size, target))
    if not fixed:
        torch.nn.init.normal_(source.pos_embed)
    if words is None:
        wanted.load_state_dict(source.state_dict())
    else:
        with pytest.raises(ValueError, match=words):
            wanted.load_state_dict(source.state_dict())


def test_flops_of_vit_base():
    """Check 19: 49 of 196 tokens are a quarter of the work.

    The reference embeds all 196 patches and counts 26.22 GFLOP; ours embeds
    the visible ones alone.
    """
    with torch.device('meta'):
        backbone = MODELS.build(dict(
            type='mmmedmask.MSMAEViT', arch='base', out_type='avg_featmap',
            final_norm=False, fixed_pos_embed=False))
        head = torch.nn.Linear(768, 4)
        images = torch.empty(1, 3, 224, 224)
        visible = torch.zeros(1, 49, dtype=torch.int64)

    def step(ids):
        head(backbone(images, ids)[0]).sum().backward()

    def tokens_flops(tokens):
        """Linear layers and attention of 12 layers, forward, by hand."""
        return 2 * 12 * (tokens * 12 * 768**2 + 2 * tokens**2 * 768)

    with torch.no_grad():
        full = count_flops(lambda: head(backbone(images)[0]))
        masked = count_flops(lambda: head(backbone(images, visible)[0]))
    class_head = 2 * 768 * 4
    assert full == tokens_flops(197) + 2 * 196 * 768**2 + class_head
    assert masked == tokens_flops(50) + 2 * 49 * 768**2 + class_head
    assert round(full / 1e9, 3) == 35.126
    # 8.817 with all patches embedded.
    assert round((masked + 2 * 147 * 768**2) / 1e9, 3) == 8.817
    ratio = count_flops(lambda: step(None)) / count_flops(
        lambda: step(visible))
    assert 4.0 < ratio < 4.15
