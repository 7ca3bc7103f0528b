"""Exported backbones compute what the pre-trained ones do."""

import hashlib
import sys
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from commands import TOOLS, call, load, run
from torch import nn

from mmmedmask.engine.checkpoint.naming import (
    backbone_family,
    rename_backbone,
)

FOLDER = 'model_converters'
export_backbone = load(f'{FOLDER}/export_backbone.py').export_backbone
publish_model = load(f'{FOLDER}/publish_model.py').publish_model


@lru_cache
def _mmpretrain_backbone(kind, **kwargs):
    """A backbone with every value drawn, statistics of BatchNorm too."""
    from mmpretrain.registry import MODELS
    torch.manual_seed(0)
    backbone = MODELS.build(dict(type=f'mmpretrain.{kind}', **kwargs))
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


def _pretraining_checkpoint(path, backbone):
    """What a CMIM run saves: other parts beside the backbone."""
    tensors = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    tensors.update({
        'mask_token': torch.zeros(1, 64, 1, 1),
        'neck.pred.weight': torch.zeros(3, 3)
    })
    torch.save(
        {
            'state_dict': tensors,
            'optimizer': {'state': {}},
            'meta': {
                'epoch': 800,
                'iter': 249600,
                'cfg': 'a = 1',
                'experiment_name': 'cmim_20240101'
            }
        }, path)
    return path


def _export(tmp_path, backbone, naming, **kwargs):
    source = _pretraining_checkpoint(tmp_path / 'epoch_800.pth', backbone)
    target = tmp_path / f'{naming}.pth'
    export_backbone(source, target, naming, **kwargs)
    return torch.load(target, weights_only=True)


@torch.no_grad()
def _torchvision_features(model, x):
    x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    features = []
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = layer(x)
        features.append(x)
    return features


ALL_STAGES = (0, 1, 2, 3)


@pytest.mark.parametrize('depth', [18, 34, 50])
def test_torchvision_resnet_computes_the_same(tmp_path, depth):
    import torchvision
    ours = _mmpretrain_backbone(
        'ResNet', depth=depth, out_indices=ALL_STAGES)
    state = _export(tmp_path, ours, 'torchvision')['state_dict']
    theirs = getattr(torchvision.models, f'resnet{depth}')(weights=None)
    theirs.fc = nn.Identity()
    theirs.load_state_dict(state, strict=True)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = ours(x)
    for a, b in zip(
            _torchvision_features(theirs.eval(), x), expected, strict=True):
        assert torch.equal(a, b)
    assert expected[-1].std() > 0


@pytest.mark.parametrize(('kind', 'depth'), [('ResNet', 18), ('ResNet', 34),
                                             ('ResNet', 50),
                                             ('ResNetV1c', 18),
                                             ('ResNetV1d', 18),
                                             ('ResNetV1d', 50)])
def test_mmdet_resnet_computes_the_same(tmp_path, kind, depth):
    from mmdet.registry import MODELS
    ours = _mmpretrain_backbone(kind, depth=depth, out_indices=ALL_STAGES)
    state = _export(tmp_path, ours, 'mmdet')['state_dict']
    extra = dict(deep_stem=True) if kind == 'ResNetV1c' else {}
    theirs = MODELS.build(
        dict(
            type='mmdet.ResNet' if extra else f'mmdet.{kind}',
            depth=depth,
            out_indices=ALL_STAGES,
            **extra))
    theirs.load_state_dict(
        {k.removeprefix('backbone.'): v
         for k, v in state.items()}, strict=True)
    theirs.eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for a, b in zip(theirs(x), ours(x), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize('kind', ['ResNetV1c', 'ResNetV1d'])
def test_openmmlab_names_do_not_fit_mmdets_deep_stems(kind):
    """The reason for the mmdet naming."""
    from mmdet.registry import MODELS
    theirs = MODELS.build(
        dict(type='mmdet.ResNetV1d', depth=50)) if kind == 'ResNetV1d' else \
        MODELS.build(dict(type='mmdet.ResNet', depth=50, deep_stem=True))
    ours = _mmpretrain_backbone(kind, depth=50).state_dict()
    assert set(ours) != set(theirs.state_dict())
    assert set(rename_backbone(ours, 'mmdet')) == set(theirs.state_dict())


def test_torchvision_convnext_computes_the_same(tmp_path):
    import torchvision
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
    'ConvNeXt': ('stem.0.weight', 'stem.1.bias',
                 'stages.0.blocks.0.conv_dw.weight',
                 'stages.1.downsample.0.weight',
                 'stages.2.blocks.8.mlp.fc1.weight',
                 'stages.3.blocks.2.mlp.fc2.bias', 'stages.3.blocks.0.gamma',
                 'stages.0.blocks.1.norm.weight', 'head.norm.bias'),
}
ARCHITECTURES = {
    'ResNet': dict(depth=18),
    'ResNetV1c': dict(depth=18),
    'ResNetV1d': dict(depth=18),
    'ConvNeXt': dict(arch='tiny'),
}


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


def test_what_cannot_be_renamed_says_so():
    deep = {'stem.0.conv.weight': torch.zeros(1)}
    with pytest.raises(ValueError, match='torchvision has no resnetv1c'):
        rename_backbone(deep, 'torchvision')
    convnext = {'downsample_layers.0.0.weight': torch.zeros(1)}
    with pytest.raises(ValueError, match="type='mmpretrain.ConvNeXt'"):
        rename_backbone(convnext, 'mmdet')
    with pytest.raises(ValueError, match='ConvNeXt V2'):
        backbone_family({**convnext, 'stages.0.0.grn.gamma': torch.zeros(1)})
    with pytest.raises(ValueError, match=r"first tensors are \['patch'\]"):
        rename_backbone({'patch': torch.zeros(1)}, 'timm')
    vit = {'layers.0.attn.qkv.weight': torch.zeros(1)}
    with pytest.raises(ValueError, match='mmdet has no plain vision'):
        rename_backbone(vit, 'mmdet')
    with pytest.raises(ValueError, match=r"\['layers.0.attn.q_bias'\]"):
        rename_backbone({**vit, 'layers.0.attn.q_bias': torch.zeros(1)},
                        'timm')
    with pytest.raises(ValueError, match="got 'keras'"):
        rename_backbone(deep, 'keras')


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
    assert 'conv1.weight' in torch.load(
        target, weights_only=True)['state_dict']
    assert '--force overwrites it' in call(export, source, target, status=1)
    printed = call(export, source, target, '--force', '--prefix', 'encoder.',
                   status=1)
    assert 'Traceback' not in printed
    printed = call(f'{FOLDER}/publish_model.py', source,
                   tmp_path / 'cmim.pth')
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
    assert published['meta'] == {
        'epoch': 800,
        'iter': 249600,
        'experiment_name': 'cmim_20240101'
    }
    kept = publish_model(source, tmp_path / 'cmim', keep_config=True)
    assert kept.suffix == '.pth'
    assert torch.load(kept, weights_only=True)['meta']['cfg'] == 'a = 1'
