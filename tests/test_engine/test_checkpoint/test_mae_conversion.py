"""Conversions between MAE's names and MSMAE's lose and invent nothing.

The key tables are written out, and features of converted weights are compared
with those of timm's vision transformer, in float64, which has MAE's names.
"""

from functools import partial

import cv2
import pytest
import torch
from mmpretrain.registry import MODELS
from timm.models import vision_transformer as timm
from torch import nn

import mmmedmask  # noqa: F401  (registers the models)
from mmmedmask.engine.checkpoint.mae_conversion import (
    convert_mae,
    pair_names,
    recognize_naming,
    resize_positions,
)
from mmmedmask.functional.attention_masking import partition_tokens

DIMS, HEADS, LAYERS = 8, 2, 2
ARCH = dict(embed_dims=DIMS, num_layers=LAYERS, num_heads=HEADS,
            feedforward_channels=4 * DIMS)
DECODER_DIMS, DECODER_HEADS, DECODER_LAYERS = 12, 3, 1
CLASSES = 3

# MAE's names to ours, by hand, for 2 layers and 1 decoder layer.
LAYER = '''
norm1        ln1
attn.qkv     attn.qkv
attn.proj    attn.proj
norm2        ln2
mlp.fc1      ffn.layers.0.0
mlp.fc2      ffn.layers.1
'''
MODULES = '''
patch_embed.proj    backbone.patch_embed.projection
norm                backbone.ln1
decoder_embed       neck.decoder_embed
decoder_norm        neck.ln1
decoder_pred        neck.decoder_pred
'''
TENSORS = '''
cls_token            backbone.cls_token
pos_embed            backbone.pos_embed
mask_token           neck.mask_token
decoder_pos_embed    neck.decoder_pos_embed
'''


def _read_table(text):
    return [line.split() for line in text.splitlines() if line]


def _parameters(modules):
    return {f'{theirs}.{one}': f'{ours}.{one}' for theirs, ours in modules
            for one in ('weight', 'bias')}


TABLE = dict(_read_table(TENSORS)) | _parameters([*_read_table(MODULES), *(
    (f'{theirs}.{part}', f'{ours}.{our_part}')
    for theirs, ours in (('blocks.0', 'backbone.layers.0'),
                         ('blocks.1', 'backbone.layers.1'),
                         ('decoder_blocks.0', 'neck.decoder_blocks.0'))
    for part, our_part in _read_table(LAYER))])
HEAD_TABLE = _parameters([('head', 'head.fc')])


def _build(img_size=16, in_channels=3, layers=LAYERS, patch_size=4):
    model = MODELS.build(dict(
        type='mmmedmask.MSMAE',
        backbone=dict(type='mmmedmask.MSMAEViT', img_size=img_size,
                      arch=dict(ARCH, num_layers=layers),
                      patch_size=patch_size, in_channels=in_channels),
        neck=dict(type='mmmedmask.MSMAEDecoder', embed_dims=DECODER_DIMS,
                  num_layers=DECODER_LAYERS, num_heads=DECODER_HEADS),
        head=dict(type='mmmedmask.MSMAEHead', num_classes=CLASSES)))
    torch.manual_seed(0)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.normal_(std=.3)
    return model


def _classifier_state(out_type='avg_featmap'):
    return MODELS.build(dict(
        type='mmmedmask.MSMAEClassifier',
        backbone=dict(type='mmmedmask.MSMAEViT', arch=dict(ARCH), img_size=16,
                      patch_size=4, out_type=out_type, fixed_pos_embed=False,
                      final_norm=out_type == 'cls_token'),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=DIMS))
    ).state_dict()


@pytest.fixture(scope='module')
def ours():
    """MSMAE with every tensor drawn."""
    return _build().state_dict()


@pytest.fixture(scope='module')
def official(ours):
    """The same tensors as MAE's code would save them."""
    return {theirs: ours[name].clone() for theirs, name in TABLE.items()}


def _without(tensors, start):
    return {name: value for name, value in tensors.items()
            if not name.startswith(start)}


def _assert_equal(given, wanted):
    assert set(given) == set(wanted)
    for name, value in wanted.items():
        assert torch.equal(given[name], value), name
        assert given[name].dtype == value.dtype


def test_table_of_names_is_the_one_by_hand():
    pairs = {theirs: ours for ours, theirs in pair_names(2, 1).items()}
    assert len(pairs) == len(pair_names(2, 1))
    by_hand = TABLE | HEAD_TABLE | {'fc_norm.weight': 'backbone.ln2.weight',
                                    'fc_norm.bias': 'backbone.ln2.bias'}
    assert pairs == by_hand


def test_table_is_what_a_model_has(ours):
    """No tensor of a model is without a name in MAE."""
    assert set(ours) == set((TABLE | HEAD_TABLE).values())


def test_naming_is_recognised(ours, official):
    assert recognize_naming(list(ours)) == 'msmae'
    assert recognize_naming(list(official)) == 'mae'
    with pytest.raises(ValueError, match=r"begin with \['conv1', 'layer1'\]"):
        recognize_naming(['layer1.0.weight', 'conv1.weight'])


def test_official_names_become_ours(ours, official):
    tensors, report = convert_mae(official)
    _assert_equal(tensors, _without(ours, 'head.'))
    assert report.complete
    assert report.carried == TABLE
    assert [*report.left_out, *report.anew, *report.notes] == []


def test_ours_become_official_names(ours, official):
    tensors, report = convert_mae(ours, 'mae')
    _assert_equal(tensors, official)
    assert list(report.left_out) == ['head.fc.weight', 'head.fc.bias']
    assert len(report.carried) + len(report.left_out) == len(ours)


@pytest.mark.parametrize('keep_head', [False, True])
def test_round_trips_are_exact(ours, keep_head):
    there, _ = convert_mae(ours, 'mae', keep_head=keep_head)
    assert not set(there) & set(ours)
    back, _ = convert_mae(there, 'msmae', keep_head=keep_head)
    _assert_equal(back, ours if keep_head else _without(ours, 'head.'))
    assert ('head.weight' in there) == keep_head


def test_mmpretrains_mae_keeps_its_names(ours):
    """mmpretrain's own model, whose head has no parameters."""
    theirs = MODELS.build(dict(
        type='mmpretrain.MAE',
        backbone=dict(type='mmpretrain.MAEViT', arch=dict(ARCH), img_size=16,
                      patch_size=4),
        neck=dict(type='mmpretrain.MAEPretrainDecoder', num_patches=16,
                  patch_size=4, embed_dim=DIMS, decoder_depth=DECODER_LAYERS,
                  decoder_embed_dim=DECODER_DIMS,
                  decoder_num_heads=DECODER_HEADS),
        head=dict(type='mmpretrain.MAEPretrainHead', patch_size=4,
                  loss=dict(type='mmpretrain.PixelReconstructionLoss',
                            criterion='L2')))).state_dict()
    tensors, report = convert_mae(theirs, model=ours, grid_size=(4, 4))
    _assert_equal(tensors, dict(theirs))
    assert set(report.anew) == {'head.fc.weight', 'head.fc.bias'}


def _by_timm(tensors, image, visible, masked):
    """Latent and predictions of an image by timm, which has MAE's names."""
    vit = timm.VisionTransformer(16, 4, num_classes=0, embed_dim=DIMS,
                                 depth=LAYERS, num_heads=HEADS)
    norm = partial(nn.LayerNorm, eps=1e-6)
    decoder = nn.ModuleDict(dict(
        decoder_embed=nn.Linear(DIMS, DECODER_DIMS),
        decoder_blocks=nn.Sequential(timm.Block(
            DECODER_DIMS, DECODER_HEADS, qkv_bias=True, norm_layer=norm)),
        decoder_norm=norm(DECODER_DIMS),
        decoder_pred=nn.Linear(DECODER_DIMS, 48)))
    for part in (vit.double(), decoder.double()):
        part.load_state_dict({name: tensors[name]
                              for name in part.state_dict()})
    patches = vit.patch_embed(image[None])[0] + tensors['pos_embed'][0, 1:]
    tokens = torch.cat([(tensors['cls_token'] + tensors['pos_embed'][:, :1])[
        0], patches[visible]])
    latent = vit.norm(vit.blocks(tokens[None]))[0]
    positions = tensors['decoder_pos_embed'][0]
    tokens = torch.cat([
        decoder.decoder_embed(latent), tensors['mask_token'][0].expand(
            len(masked), -1)]) + positions[[
                0, *(1 + place for place in [*visible, *masked])]]
    decoded = decoder.decoder_blocks(tokens[None])[0, 1 + len(visible):]
    return latent, decoder.decoder_pred(decoder.decoder_norm(decoded))


def test_converted_weights_compute_what_maes_names_say(official):
    """Encoder and decoder, read by their official names."""
    generator = torch.Generator().manual_seed(1)
    tensors = {name: torch.randn(value.shape, generator=generator,
                                 dtype=torch.float64) * .3
               for name, value in official.items()}
    converted, _ = convert_mae(tensors)
    model = _build().double().eval()
    missing, unexpected = model.load_state_dict(converted, strict=False)
    assert (missing, unexpected) == (['head.fc.weight', 'head.fc.bias'], [])
    images = torch.randn(2, 3, 16, 16, generator=generator,
                         dtype=torch.float64)
    noise = torch.rand(2, 16, generator=generator) + .1
    partition = partition_tokens(torch.ones(2, 16), noise, .45, .3)
    with torch.no_grad():
        latent, = model.backbone(images, partition.visible)
        prediction = model.neck(latent, partition)
    for index, image in enumerate(images):
        visible = partition.visible[index].tolist()
        masked = partition.masked[index].tolist()
        torch.testing.assert_close(
            (latent[index], prediction[index]),
            _by_timm(tensors, image, visible, masked))
    assert latent.std() > .1
    assert prediction.std() > .1


@pytest.mark.parametrize(('change', 'options', 'message'), [
    (lambda given: _without(given, 'blocks.1.mlp.fc2.bias'), {},
     '1 tensors are missing: backbone.layers.1.ffn.layers.1.bias'),
    (lambda given: _without(given, 'blocks.0.'), {},
     '12 tensors are missing: backbone.layers.0.ln1.weight'),
    (lambda given: given | {'blocks.0.gamma_1': torch.zeros(DIMS)}, {},
     '1 tensors of the source do not belong to a masked autoencoder: '
     'blocks.0.gamma_1'),
    (dict, dict(leave_out=['cls_token']), 'missing: backbone.cls_token'),
    (lambda given: given | {'norm.bias': torch.full((DIMS, ), torch.nan)}, {},
     'backbone.ln1.bias holds values that are not finite'),
    (dict, dict(keep_head=True), 'missing: head.fc.weight'),
    (dict, dict(model=dict(in_channels=1)),
     'trained on 3 channels, the model takes 1.*gray_to_rgb=True'),
    (dict, dict(model=dict(patch_size=8), grid_size=(2, 2)),
     "patches are of 4 x 4 pixels, the model's of 8 x 8"),
    (dict, dict(model=dict(layers=1)), 'the model has no '
     'backbone.layers.1.attn.qkv.weight.*more that do not fit'),
    (dict, dict(model=dict(layers=3)),
     r'12 tensors are missing: backbone.layers.2\.'),
    (dict, dict(naming='timm'), r"\('msmae', 'mae'\), got 'timm'"),
    (dict, dict(model={}, grid_size=None), 'belong together, got a model')])
def test_what_does_not_arrive_is_named(official, change, options, message):
    if 'model' in options:
        model = _build(**options['model']).state_dict()
        options = dict(grid_size=(4, 4)) | options | dict(model=model)
    with pytest.raises(ValueError, match=f'(?s){message}'):
        convert_mae(change(official), **options)


def test_tensors_to_leave_out_and_those_of_the_other_direction(ours, official):
    tensors, report = convert_mae(
        official | {'blocks.0.gamma_1': torch.zeros(DIMS)},
        leave_out=['*.gamma_*'])
    _assert_equal(tensors, _without(ours, 'head.'))
    assert report.left_out == {'blocks.0.gamma_1': 'as asked'}
    with pytest.raises(ValueError, match='missing: mask_token'):
        convert_mae(_without(ours, 'neck.mask_token'), 'mae')


def test_report_names_every_tensor_once(ours, official):
    more = official | {'head.weight': torch.zeros(7, DIMS),
                       'head.bias': torch.zeros(7)}
    _, report = convert_mae(more, model=ours, grid_size=(4, 4))
    assert [*report.carried, *report.left_out] == list(more)
    targets = [*report.carried.values(), *report.anew]
    assert sorted(targets) == sorted(ours)
    text = report.describe()
    for theirs, name in TABLE.items():
        assert f'  {theirs} -> {name}\n' in text
    assert ('2 of the source left out\n  head.weight: the class head knows '
            "the source's classes only\n") in text
    assert '2 of the target that start anew\n  head.fc.weight: ' in text
    assert '0 of the target missing' in text


def test_encoder_only(ours, official):
    encoder = {k: v for k, v in official.items()
               if 'decoder' not in k and k != 'mask_token'}
    with pytest.raises(ValueError, match='encoder_only .* alone'):
        convert_mae(encoder)
    wanted = {k: v for k, v in ours.items() if k.startswith('backbone.')}
    for source in (encoder, official):
        tensors, report = convert_mae(source, encoder_only=True)
        _assert_equal(tensors, wanted)
        assert len(report.left_out) == len(source) - len(wanted)
    tensors, report = convert_mae(
        encoder, encoder_only=True, model=ours, grid_size=(4, 4))
    _assert_equal(tensors, wanted)
    assert len(report.anew) == len(ours) - len(wanted)


def test_a_class_head_is_carried_for_the_same_classes(ours, official):
    head = {'head.weight': torch.randn(CLASSES, DIMS),
            'head.bias': torch.randn(CLASSES)}
    fits = dict(model=ours, grid_size=(4, 4), keep_head=True)
    tensors, _ = convert_mae(official | head, **fits)
    assert torch.equal(tensors['head.fc.weight'], head['head.weight'])
    with pytest.raises(ValueError, match=r'missing: head\.fc\.weight'):
        convert_mae(official, **fits)
    head['head.weight'] = torch.randn(7, DIMS)
    with pytest.raises(ValueError, match=r'head\.fc\.weight has the shape '
                       r'\(7, 8\), the model wants \(3, 8\)'):
        convert_mae(official | head, **fits)


def test_for_fine_tuning(ours, official):
    """Average pooling has a norm of its own, and no final norm."""
    pooled = _classifier_state()
    tensors, report = convert_mae(official, model=pooled, grid_size=(4, 4))
    assert set(report.anew) == {'backbone.ln2.weight', 'backbone.ln2.bias',
                                'head.fc.weight', 'head.fc.bias'}
    assert report.left_out['norm.weight'] == (
        'the model has no such norm after its last layer')
    assert report.left_out['mask_token'] == 'the model has no decoder'
    assert set(tensors) == set(pooled) - set(report.anew)
    by_token = _classifier_state('cls_token')
    tensors, report = convert_mae(official, model=by_token, grid_size=(4, 4))
    assert set(report.anew) == {'head.fc.weight', 'head.fc.bias'}
    assert torch.equal(tensors['backbone.ln1.bias'], official['norm.bias'])


def test_a_fine_tuned_model_goes_back(official):
    """Its norm after pooling is MAE's fc_norm; it has no other."""
    tensors = _classifier_state()
    there, report = convert_mae(
        tensors, 'mae', encoder_only=True, keep_head=True)
    assert torch.equal(there['fc_norm.weight'], tensors['backbone.ln2.weight'])
    assert torch.equal(there['head.weight'], tensors['head.fc.weight'])
    assert len(there) == len(tensors)
    assert 'norm.weight' not in there
    assert report.complete
    back, _ = convert_mae(there, encoder_only=True, keep_head=True)
    _assert_equal(back, dict(tensors))


def test_positions_are_interpolated_bicubically(official):
    positions = official['pos_embed']
    resized = resize_positions(positions, (4, 4), (6, 3))
    assert resized.shape == (1, 19, DIMS)
    assert torch.equal(resized[:, 0], positions[:, 0])
    for channel in range(DIMS):
        expected = cv2.resize(positions[0, 1:, channel].view(4, 4).numpy(),
                              (3, 6), interpolation=cv2.INTER_CUBIC)
        torch.testing.assert_close(
            resized[0, 1:, channel].view(6, 3), torch.from_numpy(expected),
            atol=1e-5, rtol=1e-5)
    assert torch.equal(resize_positions(positions, (4, 4), (4, 4)), positions)
    assert resize_positions(positions.half(), (4, 4),
                            (2, 2)).dtype == torch.float16


@pytest.mark.parametrize(('img_size', 'grid'), [(24, (6, 6)),
                                                ((24, 12), (6, 3))])
def test_another_grid_is_interpolated_and_said(official, img_size, grid):
    model = _build(img_size=img_size)
    tensors, report = convert_mae(
        official, model=model.state_dict(), grid_size=grid)
    note = f'interpolated from 4 x 4 to {grid[0]} x {grid[1]} patches'
    assert report.notes == {'backbone.pos_embed': note,
                            'neck.decoder_pos_embed': note}
    assert f'pos_embed -> backbone.pos_embed ({note})' in report.describe()
    for name, source in (('backbone.pos_embed', 'pos_embed'),
                         ('neck.decoder_pos_embed', 'decoder_pos_embed')):
        assert torch.equal(tensors[name],
                           resize_positions(official[source], (4, 4), grid))
    missing, _ = model.load_state_dict(tensors, strict=False)
    assert missing == ['head.fc.weight', 'head.fc.bias']


def test_a_grid_that_is_not_square_has_to_be_told(official):
    source, _ = convert_mae(
        official, 'mae', model=_build(img_size=(24, 12)).state_dict(),
        grid_size=(6, 3))
    square = _build().state_dict()
    with pytest.raises(ValueError, match=r'of 18 patches.*--source-grid'):
        convert_mae(source, model=square, grid_size=(4, 4))
    with pytest.raises(ValueError, match='5 x 3 patches does not have 18'):
        convert_mae(source, model=square, grid_size=(4, 4), source_grid=(5, 3))
    tensors, _ = convert_mae(
        source, model=square, grid_size=(4, 4), source_grid=(6, 3))
    assert torch.equal(tensors['backbone.pos_embed'],
                       resize_positions(source['pos_embed'], (6, 3), (4, 4)))


def test_grids_of_as_many_patches_are_told_apart(ours, official):
    """16 patches are 4 x 4 or 8 x 2: their positions differ."""
    wide = _build(img_size=(8, 32)).state_dict()
    with pytest.raises(ValueError, match=r'4 x 4 or, as in the model, 2 x 8: '
                       r'say which .*--source-grid'):
        convert_mae(official, model=wide, grid_size=(2, 8))
    tensors, report = convert_mae(
        official, model=wide, grid_size=(2, 8), source_grid=(4, 4))
    assert report.notes['backbone.pos_embed'] == (
        'interpolated from 4 x 4 to 2 x 8 patches')
    assert torch.equal(tensors['backbone.pos_embed'],
                       resize_positions(official['pos_embed'], (4, 4), (2, 8)))
    same, report = convert_mae(
        official, model=wide, grid_size=(2, 8), source_grid=(2, 8))
    assert not report.notes
    assert torch.equal(same['backbone.pos_embed'], official['pos_embed'])
    back, report = convert_mae(
        official, model=ours, grid_size=(4, 4), source_grid=(8, 2))
    assert set(report.notes) == {
        'backbone.pos_embed', 'neck.decoder_pos_embed'}
    assert not torch.equal(back['backbone.pos_embed'], official['pos_embed'])
