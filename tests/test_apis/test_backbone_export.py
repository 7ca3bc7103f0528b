"""Exported backbones compute what the pre-trained ones do."""

import hashlib
import re
import sys
from functools import lru_cache
from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from commands import TOOLS, call, load, run
from mmengine.config import Config
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from mmpretrain.models.utils import to_2tuple
from safetensors import safe_open
from torch import nn

from mmmedmask.apis.backbone_export import export_backbone, exported_files
from mmmedmask.engine.checkpoint import writing
from mmmedmask.engine.checkpoint.model_card import (
    describe_run,
    read_config_text,
)
from mmmedmask.engine.checkpoint.naming import rename_backbone
from mmmedmask.engine.checkpoint.onnx_files import write_onnx
from mmmedmask.engine.checkpoint.reading import read_checkpoint
from mmmedmask.engine.hooks import LoadCheckHook

FOLDER = 'model_converters'
publish_model = load(f'{FOLDER}/publish_model.py').publish_model


@lru_cache
def _mmpretrain_backbone(kind, **kwargs):
    """A backbone with every value drawn, statistics of BatchNorm too."""
    from mmpretrain.registry import MODELS
    torch.manual_seed(0)
    backbone = MODELS.build(dict(
        type=kind if '.' in kind else f'mmpretrain.{kind}', **kwargs))
    with torch.no_grad():
        for name, value in backbone.state_dict().items():
            if 'running_var' in name or name.endswith('weight'):
                scale = value.abs().mean() + .1
                value.copy_(torch.rand_like(value) * 2 * scale if value.ndim ==
                            1 else torch.randn_like(value) * .05)
            elif value.is_floating_point():
                value.normal_(std=.3)
    backbone.eval()  # returns None in OpenMMLab's ResNets
    return backbone


def _pretraining_checkpoint(path, backbone, config='a = 1'):
    """What a CMIM run saves: other parts beside the backbone."""
    tensors = nn.ModuleDict(dict(backbone=backbone)).state_dict()
    tensors.update({'mask_token': torch.zeros(1, 64, 1, 1),
                    'neck.pred.weight': torch.zeros(3, 3)})
    torch.save(
        {'state_dict': tensors,
         'optimizer': {'state': {}},
         'meta': {'epoch': 800, 'iter': 249600, 'cfg': config,
                  'experiment_name': 'cmim_20240101'}}, path)
    return path


def _export(tmp_path, backbone, naming, **kwargs):
    source = _pretraining_checkpoint(tmp_path / 'epoch_800.pth', backbone)
    target = tmp_path / f'{naming}.pth'
    export_backbone(source, target, naming, **kwargs)
    return torch.load(target, weights_only=True)


@pytest.mark.parametrize('name', ['a.pth', 'a.safetensors', 'a.onnx'])
def test_broken_backbones_are_not_exported(tmp_path, name):
    backbone = _mmpretrain_backbone('ResNet', depth=18)
    source = _pretraining_checkpoint(
        tmp_path / 'run.pth', backbone,
        "model = dict(backbone=dict(type='mmpretrain.ResNet', depth=18))")
    content = torch.load(source, weights_only=True)
    lost = content['state_dict'].pop('backbone.layer3.0.conv1.weight')
    torch.save(content, source)
    with pytest.raises(ValueError, match=r'fit the config.*\s.*layer3\.0\.c'):
        export_backbone(source, tmp_path / name)
    content['state_dict']['backbone.layer3.0.conv1.weight'] = lost * torch.nan
    torch.save(content, source)
    with pytest.raises(ValueError, match=r'not finite: layer3\.0\.conv1'):
        export_backbone(source, tmp_path / name)
    assert list(tmp_path.iterdir()) == [source]


def _torchvision_features(model, x):
    x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    features = []
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = layer(x)
        features.append(x)
    return features


ALL_STAGES = (0, 1, 2, 3)


@pytest.mark.parametrize(('naming', 'kind', 'depth'), [
    *(('torchvision', 'ResNet', depth) for depth in (18, 34, 50)),
    *(('mmdet', 'ResNet', depth) for depth in (18, 34, 50)),
    ('mmdet', 'ResNetV1c', 18), ('mmdet', 'ResNetV1d', 18),
    ('mmdet', 'ResNetV1d', 50)])
@torch.no_grad()
def test_resnets_of_others_compute_the_same(tmp_path, naming, kind, depth):
    ours = _mmpretrain_backbone(kind, depth=depth, out_indices=ALL_STAGES)
    state = _export(tmp_path, ours, naming)['state_dict']
    x = torch.randn(1, 3, 64, 96)
    if naming == 'torchvision':
        theirs = getattr(torchvision.models, f'resnet{depth}')(weights=None)
        theirs.fc = nn.Identity()
        theirs.load_state_dict(state, strict=True)
        found = _torchvision_features(theirs.eval(), x)
    else:
        from mmdet.registry import MODELS
        extra = dict(deep_stem=True) if kind == 'ResNetV1c' else {}
        theirs = MODELS.build(dict(
            type='mmdet.ResNet' if extra else f'mmdet.{kind}', depth=depth,
            out_indices=ALL_STAGES, **extra))
        theirs.load_state_dict({k.removeprefix('backbone.'): v
                                for k, v in state.items()}, strict=True)
        theirs.eval()
        found = theirs(x)
    expected = ours(x)
    assert len(found) == len(expected) == 4
    assert all(map(torch.equal, found, expected))
    assert expected[-1].std() > 0


def test_torchvision_convnext_computes_the_same(tmp_path):
    ours = _mmpretrain_backbone('ConvNeXt', arch='tiny')
    state = _export(tmp_path, ours, 'torchvision')['state_dict']
    theirs = torchvision.models.convnext_tiny(weights=None).eval()
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert missing == ['classifier.2.weight', 'classifier.2.bias']
    assert unexpected == []
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = ours(x)[-1]
        pooled = theirs.classifier[0](theirs.avgpool(theirs.features(x)))
    torch.testing.assert_close(pooled.flatten(1), expected)


# What timm calls them, one line per kind of layer.
TIMM_NAMES = {
    'ResNet': ('conv1.weight', 'bn1.running_mean', 'layer1.0.conv1.weight',
               'layer2.0.downsample.0.weight', 'layer4.1.bn2.bias'),
    'ResNetV1c': ('conv1.0.weight', 'conv1.1.running_var', 'conv1.3.weight',
                  'conv1.4.bias', 'conv1.6.weight', 'bn1.weight',
                  'layer2.0.downsample.0.weight'),
    'ResNetV1d': ('conv1.0.weight', 'conv1.6.weight', 'bn1.running_mean',
                  'layer2.0.downsample.1.weight',
                  'layer2.0.downsample.2.running_mean'),
    'ConvNeXt': (
        'stem.0.weight', 'stem.1.bias', 'stages.0.blocks.0.conv_dw.weight',
        'stages.1.downsample.0.weight', 'stages.2.blocks.8.mlp.fc1.weight',
        'stages.3.blocks.2.mlp.fc2.bias', 'stages.3.blocks.0.gamma',
        'stages.0.blocks.1.norm.weight', 'head.norm.bias'),
}
ARCHITECTURES = {'ResNet': dict(depth=18), 'ResNetV1c': dict(depth=18),
                 'ResNetV1d': dict(depth=18), 'ConvNeXt': dict(arch='tiny')}


@pytest.mark.parametrize('kind', ARCHITECTURES)
def test_timm_names(kind):
    state = _mmpretrain_backbone(kind, **ARCHITECTURES[kind]).state_dict()
    renamed = rename_backbone(state, 'timm')
    assert set(TIMM_NAMES[kind]) <= set(renamed)
    assert not [n for n in renamed if n.startswith(('stem.2', 'norm3'))]
    assert len(renamed) == len(state)


@pytest.mark.parametrize(('kind', 'arguments', 'timm_name'), [
    ('ResNet', dict(depth=18), 'resnet18'),
    ('ResNet', dict(depth=50), 'resnet50'),
    ('ResNetV1c', dict(depth=50), 'resnet50c'),
    ('ResNetV1d', dict(depth=18), 'resnet18d'),
    ('ResNetV1d', dict(depth=50), 'resnet50d'),
    ('ConvNeXt', dict(arch='tiny'), 'convnext_tiny'),
    ('VisionTransformer', dict(arch='deit-tiny', img_size=(64, 96),
                               final_norm=True), 'vit_tiny_patch16_224'),
])
def test_timm_computes_the_same(tmp_path, kind, arguments, timm_name):
    timm = pytest.importorskip('timm', reason='timm is not installed')
    ours = _mmpretrain_backbone(kind, **arguments)
    state = _export(tmp_path, ours, 'timm')['state_dict']
    size = dict(img_size=(64, 96)) if 'vit' in timm_name else {}
    theirs = timm.create_model(timm_name, num_classes=0, **size).eval()
    theirs.load_state_dict(state, strict=True)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = ours(x)[-1]
        if kind in ('ConvNeXt', 'VisionTransformer'):
            got = theirs(x)
        else:
            got = theirs.forward_features(x)
    torch.testing.assert_close(got, expected)


def test_exported_file_is_plain(tmp_path):
    backbone = _mmpretrain_backbone('ResNet', depth=18)
    exported = _export(tmp_path, backbone, 'openmmlab')
    assert set(exported) == {'state_dict', 'meta'}
    state = exported['state_dict']
    assert set(state) == {f'backbone.{n}' for n in backbone.state_dict()}
    for name, value in backbone.state_dict().items():
        assert torch.equal(state[f'backbone.{name}'], value)
    meta = exported['meta']
    assert meta['source'] == 'epoch_800.pth'
    assert meta['epoch'] == 800
    assert meta['experiment_name'] == 'cmim_20240101'
    assert len(meta['source_sha256']) == len(meta['config_sha256']) == 64
    assert all(type(v) in (int, float, str) for v in meta.values())
    assert state._metadata['backbone.bn1'] == dict(version=2)
    assert not any(str(tmp_path) in str(v) for v in meta.values())


def test_a_view_does_not_drag_its_storage_along(tmp_path):
    big = torch.zeros(1_000_000)
    torch.save({'backbone.layer1.0.conv1.weight': big[:4].view(2, 2),
                'backbone.conv1.weight': big[4:8]}, tmp_path / 'source.pth')
    export_backbone(tmp_path / 'source.pth', tmp_path / 'target.pth')
    assert (tmp_path / 'target.pth').stat().st_size < 10_000


def test_prefixes(tmp_path):
    backbone = _mmpretrain_backbone('ResNet', depth=18)
    state = _export(
        tmp_path, backbone, 'openmmlab', target_prefix='')['state_dict']
    assert set(state) == set(backbone.state_dict())
    with pytest.raises(ValueError, match=r"'encoder.'; their names begin "
                       r"with \['backbone', 'mask_token', 'neck'\]"):
        export_backbone(tmp_path / 'epoch_800.pth', tmp_path / 'x.pth',
                        prefix='encoder.')


DEEP, CONVNEXT, VIT = ('stem.0.conv.weight', 'downsample_layers.0.0.weight',
                       'layers.0.attn.qkv.weight')


@pytest.mark.parametrize(('names', 'naming', 'said'), [
    ([DEEP], 'torchvision', 'torchvision has no resnetv1c'),
    ([CONVNEXT], 'mmdet', "type='mmpretrain.ConvNeXt'"),
    ([CONVNEXT, 'stages.0.0.grn.gamma'], 'timm', 'ConvNeXt V2'),
    (['patch'], 'timm', r"first tensors are \['patch'\]"),
    ([VIT], 'mmdet', 'mmdet has no plain vision'),
    ([VIT, 'layers.0.attn.q_bias'], 'timm', r"\['layers.0.attn.q_bias'\]"),
    ([DEEP], 'keras', "got 'keras'")])
def test_what_cannot_be_renamed_says_so(names, naming, said):
    with pytest.raises(ValueError, match=said):
        rename_backbone(dict.fromkeys(names, torch.zeros(1)), naming)


TINY_VIT = dict(
    embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
TINY_CONVNEXT = dict(depths=[1, 1, 2, 1], channels=[8, 16, 24, 32])
CONFIG = """
model = dict(
    type='mmmedmask.CMIM',
    data_preprocessor=dict(
        mean=[10.0, 20.0, 30.0], std=[1.0, 2.0, 4.0], data_range=100),
    backbone={backbone},
    head=dict(type='Head'))
default_scope = 'mmpretrain'
train_dataloader = dict(
    dataset=dict(type='mmmedmask.TileFolder', data_root='{root}/tiles'))
evil = __import__('os').system('touch {root}/ran')
"""


def _run_of(tmp_path, kind, **arguments):
    """A backbone, and the checkpoint of its run with a config."""
    # Past the cache, which an architecture as a dictionary has no key for.
    backbone = _mmpretrain_backbone.__wrapped__(kind, **arguments)
    described = dict(type=kind, **arguments, init_cfg=dict(
        type='Pretrained', checkpoint='/secret/weights.pth'))
    path = _pretraining_checkpoint(
        tmp_path / 'epoch_800.pth', backbone,
        CONFIG.format(backbone=described, root=tmp_path))
    content = torch.load(path, weights_only=True)
    losses = HistoryBuffer([5., 3.], [1, 1])
    content['message_hub'] = dict(log_scalars={
        'train/loss': losses, 'train/lr': losses, 'val/acc': losses})
    torch.save(content, path)
    return backbone, path


def test_safetensors_are_the_default_and_read_again(tmp_path):
    backbone, source = _run_of(tmp_path, 'ResNet', depth=18)
    written = export_backbone(source, tmp_path / 'encoder')
    plain = export_backbone(source, tmp_path / 'encoder.pth')
    file = tmp_path / 'encoder.safetensors'
    found = read_checkpoint(file)
    assert found['meta']['epoch'] == '800'
    assert set(written['state_dict']) == set(found['state_dict']) == {
        f'backbone.{name}' for name in backbone.state_dict()}
    for name, value in plain['state_dict'].items():
        assert torch.equal(found['state_dict'][name], value)
    # As all weights of a config are read.
    loaded = CheckpointLoader.load_checkpoint(str(file), 'cpu')
    assert set(loaded['state_dict']) == set(found['state_dict'])
    assert not list(tmp_path.glob('.*'))


@pytest.mark.parametrize('target', ['a.safetensors', 'a.pth'])
def test_a_card_says_what_a_user_needs(tmp_path, target):
    _, source = _run_of(tmp_path, 'ResNet', depth=18)
    export_backbone(source, tmp_path / target, licence='CC-BY-4.0')
    card = (tmp_path / f'{target}.md').read_text('utf-8')
    _, header, body = card.split('---\n', 2)
    header = yaml.safe_load(header)
    assert (header['license'], header['library_name']) == (
        'cc-by-4.0', 'pytorch')
    assert header['mmmedmask'] == dict(
        name='cmim_20240101', epoch=800, iterations=249600,
        licence='CC-BY-4.0', metrics={'train/loss': 3., 'val/acc': 3.},
        method='mmmedmask.CMIM', backbone=dict(type='ResNet', depth=18),
        data=dict(train='mmmedmask.TileFolder tiles'),
        normalisation=dict(mean=[10., 20., 30.], std=[1., 2., 4.],
                           data_range=100.), channels=3)
    for said in ('R, G, B', 'from 0 to 100', '[10.0, 20.0, 30.0]', target,
                 'train/loss 3', 'CC-BY-4.0', 'epoch 800'):
        assert said in body
    # No code of the config has run, and no path of this machine is in it.
    assert not (tmp_path / 'ran').exists()
    assert str(tmp_path) not in card
    assert 'secret' not in card


@pytest.mark.parametrize(('changes', 'line', 'message'), [
    ({'[10.0, 20.0, 30.0]': '[-10.0, 20.0, 30.0]', 'data_range=100': ''},
     '| values as stored, minus [-10.0, 20.0, 30.0], ',
     "naming 'hf' needs images of values"),
    ({"type='mmmedmask.TileFolder'":
      "pipeline=[dict(type='LoadImageFromFile')]"},
     '3, in the order B, G, R', 'order R, G, B, and the config')],
    ids=['floats', 'bgr'])
def test_what_timm_cannot_be_given_is_on_the_card(tmp_path, changes, line,
                                                  message):
    pytest.importorskip('timm', reason='timm is not installed')
    _, source = _run_of(tmp_path, 'ResNet', depth=18)
    content = read_checkpoint(source)
    for text, other in changes.items():
        assert text in content['meta']['cfg']
        content['meta']['cfg'] = content['meta']['cfg'].replace(text, other)
    torch.save(content, source)
    export_backbone(source, tmp_path / 'a')
    assert line in (tmp_path / 'a.safetensors.md').read_text('utf-8')
    with pytest.raises(ValueError, match=message):
        export_backbone(source, tmp_path / 'b', 'hf')


@pytest.mark.parametrize('target', ['a.safetensors', 'a.pth'])
@pytest.mark.parametrize('prefix', [None, 'encoder', ''])
def test_the_config_of_a_card_loads_the_file(
        tmp_path, monkeypatch, target, prefix):
    pytest.importorskip('mmdet')
    from mmdet.registry import MODELS
    monkeypatch.chdir(tmp_path)
    backbone = _mmpretrain_backbone('ResNet', depth=18)
    source = _pretraining_checkpoint(tmp_path / 'run.pth', backbone)
    export_backbone(source, target, 'mmdet', target_prefix=prefix)
    card = Path(f'{target}.md').read_text('utf-8')
    config = {}
    exec(re.search('```python\n(.*?)```', card, re.DOTALL)[1], config)
    detector = MODELS.build(dict(
        type='mmdet.ResNet', depth=18, **config['model']['backbone']))
    detector.init_weights()
    state = detector.state_dict()
    assert all(torch.equal(state[name], value)
               for name, value in backbone.state_dict().items())
    LoadCheckHook(**{key: value for key, value in config['default_hooks'][
        'load_check'].items() if key != 'type'}).group_modules(
            nn.ModuleDict(dict(backbone=detector)))
    assert 'norm_eval' in card


def test_a_card_without_batch_norm_does_not_speak_of_it(tmp_path):
    _, source = _run_of(tmp_path, 'ConvNeXt', arch=TINY_CONVNEXT)
    export_backbone(source, tmp_path / 'a')
    assert 'BatchNorm' not in (tmp_path / 'a.safetensors.md').read_text()


def test_a_card_names_what_a_data_set_wraps():
    tiles = [dict(type='Tiles', data_root=f'data/{name}') for name in 'ab']
    config = Config(dict(train_dataloader=dict(dataset=dict(datasets=[
        dict(type='RepeatDataset', dataset=tiles[0]), tiles[1]]))))
    assert describe_run({}, config)['data'] == dict(
        train='Tiles a and Tiles b')


def test_what_is_not_known_is_said(tmp_path):
    torch.save({'backbone.conv1.weight': torch.zeros(2)}, tmp_path / 'a.pth')
    export_backbone(tmp_path / 'a.pth', tmp_path / 'b.pth')
    card = (tmp_path / 'b.pth.md').read_text('utf-8')
    assert card.count('not known') == 7
    assert 'Licence | not stated' in card


def test_a_config_is_read_without_running_it():
    config = read_config_text(
        'a = dict(b=[1, (2, -3.5)], c={"d": None})\ne = f()\ng = True')
    assert config.to_dict() == dict(
        a=dict(b=[1, [2, -3.5]], c=dict(d=None)), g=True)
    with pytest.raises(ValueError, match='line 1.*--config'):
        read_config_text('a b')
    # As MMEngine writes them.
    numbers = dict(a=float('inf'), b=[-float('inf')])
    assert read_config_text(Config(dict(model=numbers)).pretty_text
                            ).model == numbers


@pytest.mark.parametrize(('kind', 'arguments', 'name'), [
    ('ResNet', dict(depth=18), 'resnet18'),
    ('mmmedmask.CMIMResNet', dict(depth=18, in_channels=3), 'resnet18'),
    ('ResNetV1c', dict(depth=18), 'resnet18'),
    ('ResNetV1d', dict(depth=18), 'resnet18d'),
    ('ConvNeXt', dict(arch=TINY_CONVNEXT), 'convnext_tiny'),
    ('ConvNeXt', dict(arch=TINY_CONVNEXT, linear_pw_conv=False),
     'convnext_tiny'),
    ('VisionTransformer', dict(arch=TINY_VIT, img_size=(32, 48),
                               qkv_bias=False), 'vit_base_patch16_224'),
    ('VisionTransformer', dict(arch=TINY_VIT, img_size=64, patch_size=8,
                               final_norm=True), 'vit_base_patch16_224'),
    ('VisionTransformer', dict(
        arch=TINY_VIT, img_size=32, out_type='avg_featmap', final_norm=False),
     'vit_base_patch16_224'),
])
def test_timm_loads_the_folder(tmp_path, kind, arguments, name):
    timm = pytest.importorskip('timm', reason='timm is not installed')
    ours, source = _run_of(tmp_path, kind, **arguments)
    export_backbone(source, tmp_path / 'folder', 'hf')
    assert sorted(file.name for file in (tmp_path / 'folder').iterdir()) == [
        'README.md', 'config.json', 'model.safetensors']
    theirs = timm.create_model(
        f'local-dir:{tmp_path / "folder"}', pretrained=True).eval()
    config = theirs.pretrained_cfg
    assert config['architecture'] == name
    assert config['mean'] == pytest.approx((.1, .2, .3))
    assert config['std'] == pytest.approx((.01, .02, .04))
    size = to_2tuple(arguments.get('img_size', 224))
    assert tuple(config['input_size']) == (3, *size)
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = ours(x)[-1]
        got = theirs(x)
    if expected.ndim == 4:
        expected = expected.mean(dim=(2, 3))
    assert got.std() > 0
    torch.testing.assert_close(got, expected)


RESNET, VISION = ('ResNet', dict(depth=50)), ('VisionTransformer', dict(
    arch=TINY_VIT, img_size=32))


@pytest.mark.parametrize(('kind', 'arguments', 'said'), [
    (RESNET, dict(depth=18, base_channels=16, stem_channels=16),
     r'no resnet with \(2, 2, 2, 2\) blocks and 16 channels'),
    (RESNET, dict(style='caffe'), r'by \S+ of \S+ in layer2.*caffe'),
    (RESNET, dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
     r'layer4 the shape \(2, 2048, 2, 3\), the network \(2, 2048, 4, 6\)'),
    (RESNET, dict(norm_cfg=dict(type='BN', eps=1e-3)), 'in layer1'),
    (RESNET, dict(depth=18, avg_down=True), 'Missing key.*downsample'),
    (('ConvNeXt', dict(arch=TINY_CONVNEXT)), dict(stem_patch_size=2),
     r'size mismatch for stem\.0|torchvision has no ConvNeXt with \[1, 1'),
    (VISION, dict(norm_cfg=dict(type='LN', eps=1e-5)), r'in layers\.0'),
    (VISION, dict(layer_cfgs=dict(act_cfg=dict(type='ReLU'))), 'ReLU'),
    (VISION, dict(patch_cfg=dict(stride=8)), 'mismatch for pos_embed')])
def test_what_others_do_not_have_is_refused(tmp_path, kind, arguments, said):
    """Some is loaded there without a word, and computes something else."""
    pytest.importorskip('timm', reason='timm is not installed')
    _, source = _run_of(tmp_path, kind[0], **{**kind[1], **arguments})
    for naming in ('hf', 'torchvision')[:1 + (kind != VISION)]:
        with pytest.raises(ValueError, match=f'(?s){said}'):
            export_backbone(source, tmp_path / 'target', naming)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(('kind', 'arguments'), [
    ('mmdet.ResNet', dict(depth=18, norm_cfg=dict(type='SyncBN'))),
    ('SparseResNet', dict(depth=18, norm_cfg=dict(type='SparseBatchNorm2d'))),
    ('mmmedmask.CMIMSparseResNet', dict(depth=18, in_channels=3)),
    ('mmmedmask.CMIMConvNeXt', dict(arch='tiny')),
    ('MAEViT', dict(arch=TINY_VIT, img_size=32)),
    ('MoCoV3ViT', dict(arch=TINY_VIT, img_size=32, patch_size=16)),
    ('mmmedmask.MSMAEViT', dict(arch=TINY_VIT, img_size=32, final_norm=False,
                                in_channels=3, out_type='featmap'))])
def test_card_and_file_say_what_was_compared(tmp_path, monkeypatch, kind,
                                             arguments):
    pytest.importorskip('timm', reason='timm is not installed')
    init_default_scope('mmpretrain')
    _, source = _run_of(tmp_path, kind, **arguments)

    def export(naming):
        meta = export_backbone(source, tmp_path / 'a', naming)['meta']
        card = (tmp_path / 'a.safetensors.md').read_text('utf-8')
        assert meta['compared'] in card
        return meta['compared']

    assert 'timm.create_model(' in export('timm')
    if 'ViT' not in kind:
        assert 'compared with torchvision.models.' in export('torchvision')
    monkeypatch.setitem(sys.modules, 'timm', None)
    assert 'not compared: a comparison with timm needs' in export('timm')
    torch.save(read_checkpoint(source)['state_dict'], source)
    assert export('timm') == (
        'not compared with timm: there is no config of the run')


@pytest.mark.parametrize(('kind', 'arguments'), [
    ('ResNet', dict(depth=18, out_indices=ALL_STAGES)),
    ('mmmedmask.CMIMResNet', dict(depth=18, in_channels=3)),
    ('mmmedmask.MSMAEViT', dict(arch=TINY_VIT, img_size=64, patch_size=16,
                                in_channels=3)),
    ('ConvNeXt', dict(arch=TINY_CONVNEXT)),
    ('VisionTransformer', dict(arch=TINY_VIT, img_size=64)),
])
def test_onnx_computes_the_same(tmp_path, kind, arguments):
    """For other batches and sizes, those of a transformer by its patches."""
    pytest.importorskip('onnx', reason='onnx is not installed')
    runtime = pytest.importorskip(
        'onnxruntime', reason='onnxruntime is not installed')
    ours, source = _run_of(tmp_path, kind, **arguments)
    export_backbone(source, tmp_path / 'encoder.onnx')
    session = runtime.InferenceSession(tmp_path / 'encoder.onnx')
    for size in ((64, 64), (96, 128), (32, 64)):
        images = torch.randn(5, 3, *size)
        found = session.run(None, {'images': images.numpy()})
        with torch.no_grad():
            expected = ours(images)
        assert len(found) == len(expected)
        for got, want in zip(found, expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(got), want, rtol=0,
                                       atol=1e-3 * float(want.abs().max()))
    assert 'images (B, C, H, W) to features' in (
        tmp_path / 'encoder.onnx.md').read_text('utf-8')


SIZED = dict(arch=TINY_VIT, img_size=64)
SWIN = dict(arch=dict(embed_dims=16, depths=[1, 2], num_heads=[2, 2]),
            img_size=112, out_indices=(0, 1))


@pytest.mark.parametrize(('kind', 'plain', 'arguments', 'options'), [
    ('SparseResNet', 'ResNet', dict(depth=18, out_indices=ALL_STAGES),
     dict(norm_cfg=dict(type='SparseBatchNorm2d'))),
    ('SimMIMSwinTransformer', 'SwinTransformer', SWIN, {}),
    ('MAEViT', 'VisionTransformer', dict(SIZED, out_type='raw'), {}),
    ('BEiTPretrainViT', 'mmmedmask.BEiTFeatureViT', dict(
        SIZED, out_type='raw'), dict(use_abs_pos_emb=True,
                                     use_shared_rel_pos_bias=False))])
def test_onnx_of_masked_encoders_sees_whole_images(tmp_path, kind, plain,
                                                   arguments, options):
    """As the plain network of the same weights does."""
    pytest.importorskip('onnx', reason='onnx is not installed')
    runtime = pytest.importorskip(
        'onnxruntime', reason='onnxruntime is not installed')
    init_default_scope('mmpretrain')
    _, source = _run_of(tmp_path, kind, **arguments, **options)
    export_backbone(source, tmp_path / 'encoder.onnx')
    more = dict(num_global_layers=1, final_norm=True) \
        if plain.startswith('mmm') else {}
    network = _mmpretrain_backbone.__wrapped__(plain, **arguments, **more)
    network.load_state_dict({
        name.removeprefix('backbone.'): value for name, value in
        read_checkpoint(source)['state_dict'].items()
        if name.startswith('backbone.')}, strict=False)
    images = torch.randn(5, 3, *to_2tuple(arguments.get('img_size', 96)))
    with torch.no_grad():
        expected = network(images)
    session = runtime.InferenceSession(tmp_path / 'encoder.onnx')
    features = session.run(None, {'images': images.numpy()})
    for got, want in zip(features, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(got), want, rtol=0,
                                   atol=1e-3 * float(want.abs().max()))


def test_what_no_graph_of_any_batch_holds_is_refused(tmp_path):
    pytest.importorskip('onnx', reason='onnx is not installed')
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    _, source = _run_of(tmp_path, 'mmmedmask.WindowedViT', **SIZED,
                        window_size=3, num_global_layers=1)
    with pytest.raises(ValueError, match=r'WindowedViT fails.*\(3, 3, 80'):
        export_backbone(source, tmp_path / 'a.onnx')
    assert list(tmp_path.iterdir()) == [source]


class _CountsImages(nn.Module):
    """What a trace keeps of it is the number of its own batch."""

    def forward(self, images):
        return images.mean(dim=(1, 2, 3)) * float(len(images))


def test_a_graph_that_computes_something_else_is_refused(tmp_path):
    pytest.importorskip('onnx', reason='onnx is not installed')
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    with pytest.raises(ValueError, match=r'differs from the network by .*\(3'):
        write_onnx(tmp_path / 'a.onnx', _CountsImages(), 3, (32, 32))
    assert not list(tmp_path.iterdir())


def test_a_network_needs_a_config(tmp_path):
    torch.save({'backbone.layers.0.attn.qkv.weight': torch.zeros(1)},
               tmp_path / 'a.pth')
    for target, naming in (('a.onnx', 'openmmlab'), ('folder', 'hf')):
        with pytest.raises(ValueError, match='no config.*--config'):
            export_backbone(tmp_path / 'a.pth', tmp_path / target, naming)
    with pytest.raises(ValueError, match="'.bin'"):
        export_backbone(tmp_path / 'a.pth', tmp_path / 'a.bin')
    with pytest.raises(ValueError, match="got 'keras'"):
        export_backbone(tmp_path / 'a.pth', tmp_path / 'b', 'keras')


@pytest.mark.slow
def test_command_lines(tmp_path):
    """One in a process of its own, as users run it."""
    backbone = _mmpretrain_backbone('ResNet', depth=18)
    source = _pretraining_checkpoint(tmp_path / 'epoch_800.pth', backbone)
    target = tmp_path / 'new' / 'resnet18.pth'
    export = f'{FOLDER}/export_backbone.py'
    printed = run(sys.executable, TOOLS / export, source, target, '--naming',
                  'torchvision')
    assert '120 tensors' in printed
    assert 'not compared with torchvision' in printed
    assert 'conv1.weight' in torch.load(
        target, weights_only=True)['state_dict']
    assert '--force overwrites it' in call(export, source, target, status=1)
    printed = call(export, source, target, '--force', '--prefix', 'encoder.',
                   status=1)
    assert 'Traceback' not in printed
    printed = call(f'{FOLDER}/publish_model.py', source, tmp_path / 'cmim.pth')
    assert Path(printed.strip()).is_file()


def test_published_model_is_stripped_and_named_by_its_content(tmp_path):
    backbone = _mmpretrain_backbone('ResNet', depth=18)
    source = _pretraining_checkpoint(tmp_path / 'epoch_800.pth', backbone)
    path = publish_model(source, tmp_path / 'out' / 'cmim_r18.v1.pth')
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f'cmim_r18.v1-{digest[:8]}.pth'
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    published = torch.load(path, weights_only=True)
    assert set(published) == {'state_dict', 'meta'}
    assert 'mask_token' in published['state_dict']
    assert published['meta'] == {'epoch': 800, 'iter': 249600,
                                 'experiment_name': 'cmim_20240101'}
    kept = publish_model(source, tmp_path / 'cmim', keep_config=True)
    assert kept.suffix == '.pth'
    assert torch.load(kept, weights_only=True)['meta']['cfg'] == 'a = 1'


def test_two_are_published_by_one_name_at_once(tmp_path, monkeypatch):
    def publish(number):
        source = tmp_path / f'{number}.pth'
        torch.save(dict(state_dict=dict(a=torch.tensor(number))), source)
        return publish_model(source, tmp_path / 'out/a.pth')

    def hash_later(path):
        monkeypatch.undo()
        publish(1)
        return writing.sha256_of(path)

    monkeypatch.setattr(writing, 'sha256_of', hash_later)
    published = torch.load(publish(0), weights_only=True)
    assert published['state_dict']['a'] == 0
    assert len([*(tmp_path / 'out').iterdir()]) == 2


def test_published_files_are_what_their_ending_says(tmp_path):
    source = tmp_path / 'run.pth'
    torch.save(dict(state_dict=dict(a=torch.arange(3.)), meta=dict(epoch=7)),
               source)
    path = publish_model(source, tmp_path / 'ratio-0.7.safetensors')
    assert re.fullmatch(r'ratio-0\.7-[0-9a-f]{8}\.safetensors', path.name)
    with safe_open(path, 'pt') as file:
        assert file.metadata() == {'format': 'pt', 'epoch': '7'}
        assert torch.equal(file.get_tensor('a'), torch.arange(3.))
    path = publish_model(source, tmp_path / 'ratio-0.7')
    assert re.fullmatch(r'ratio-0\.7-[0-9a-f]{8}\.pth', path.name)
    assert torch.load(path, weights_only=True)['meta'] == {'epoch': 7}
    with pytest.raises(ValueError, match=r"'.pth', .* got '.onnx'"):
        publish_model(source, tmp_path / 'a.onnx')
    assert exported_files(tmp_path / 'ratio-0.7')[0].name == (
        'ratio-0.7.safetensors')
