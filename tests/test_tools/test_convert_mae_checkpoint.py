"""The converter of masked autoencoders, as it is called from a shell."""

import argparse
import hashlib
from pathlib import Path

import pytest
import torch
from commands import call
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from safetensors.torch import load_file

import mmmedmask  # noqa: F401  (registers the models)
from mmmedmask.engine.checkpoint.mae_conversion import resize_positions

TINY = """
default_scope = 'mmpretrain'
model = dict(
    type='mmmedmask.MSMAE',
    backbone=dict(
        type='mmmedmask.MSMAEViT',
        arch=dict(
            embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16),
        img_size={size},
        patch_size=4),
    neck=dict(
        type='mmmedmask.MSMAEDecoder', embed_dims=8, num_layers=1,
        num_heads=2),
    head=dict(type='mmmedmask.MSMAEHead', num_classes=3))
"""


def convert(*arguments, status=0):
    return call('model_converters/convert_mae_checkpoint.py', *arguments,
                status=status)


@pytest.fixture(autouse=True)
def _in_the_folder_of_the_test(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _write_config(path, size=16):
    path.write_text(TINY.format(size=size))
    return path


def _build(config):
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    torch.manual_seed(0)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.normal_()
    return model


@pytest.fixture
def model(tmp_path):
    return _build(_write_config(tmp_path / 'tiny.py'))


def test_there_and_back(model):
    torch.save({'state_dict': model.state_dict(), 'meta': {'epoch': 300}},
               'epoch_300.pth')
    convert('epoch_300.pth', 'new/mae.pth', '--to', 'mae', '--keep-head')
    # Where MAE's own code looks for them.
    official = torch.load('new/mae.pth', weights_only=True)['model']
    assert torch.equal(official['blocks.1.mlp.fc2.weight'],
                       model.backbone.layers[1].ffn.layers[1].weight)
    assert torch.equal(official['head.bias'], model.head.fc.bias)
    convert('new/mae.pth', 'back.pth', '--keep-head')
    back = torch.load('back.pth', weights_only=True)
    assert set(back['state_dict']) == set(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(back['state_dict'][name], value), name
    assert back['meta']['source'] == 'mae.pth'
    assert back['meta']['source_sha256'] == hashlib.sha256(
        Path('new/mae.pth').read_bytes()).hexdigest()
    assert all(type(value) is str for value in back['meta'].values())
    printed = convert('new/mae.pth', 'run-0.7', '--keep-head')
    assert printed.splitlines()[-1].startswith('run-0.7.pth: ')
    convert('new/mae.pth', 'back.safetensors', '--keep-head')
    safe = load_file('back.safetensors')
    assert set(safe) == set(back['state_dict'])
    for name, value in safe.items():
        assert torch.equal(back['state_dict'][name], value), name
    assert "got '.onnx'" in convert('new/mae.pth', 'back.onnx', status=1)


def test_for_a_config_of_another_size(model, tmp_path):
    """What it writes is what MMEngine then loads into that model."""
    torch.save(model.state_dict(), 'tensors.pth')
    config = _write_config(tmp_path / 'larger.py', (24, 12))
    printed = convert('tensors.pth', 'larger.pth', '--config', config)
    assert ('backbone.pos_embed -> backbone.pos_embed (interpolated from '
            '4 x 4 to 6 x 3 patches)') in printed
    assert '2 of the source left out\n  head.fc.weight: ' in printed
    assert 'larger.pth: 50 tensors' in printed.splitlines()[-1]
    larger = _build(config)
    fresh = larger.head.fc.weight.clone()
    load_checkpoint(larger, 'larger.pth')
    assert torch.equal(
        larger.backbone.pos_embed,
        resize_positions(model.backbone.pos_embed, (4, 4), (6, 3)))
    assert torch.equal(larger.neck.decoder_pred.weight,
                       model.neck.decoder_pred.weight)
    assert torch.equal(larger.head.fc.weight, fresh)
    convert('larger.pth', 'again.pth', '--config', tmp_path / 'tiny.py',
        '--source-grid', 6, 3, '--encoder-only')
    again = torch.load('again.pth', weights_only=True)['state_dict']
    assert all(name.startswith('backbone.') for name in again)


def test_nothing_is_written_if_something_is_missing(model):
    tensors = model.state_dict()
    del tensors['backbone.layers.0.ln2.bias']
    torch.save(tensors, 'broken.pth')
    printed = convert('broken.pth', 'target.pth', status=1)
    assert ('convert_mae_checkpoint: the conversion is not complete.\n'
            '1 tensors are missing: backbone.layers.0.ln2.bias') in printed
    assert not Path('target.pth').exists()


def test_files_are_read_safely_and_kept(model):
    """MAE's own training saves its arguments as a Python object."""
    torch.save({'model': model.state_dict(),
                'args': argparse.Namespace(lr=1e-3)}, 'official.pth')
    assert 'weights_only=True (it uses argparse.Namespace)' in convert(
        'official.pth', 'target.pth', status=1)
    assert 'no checkpoint' in convert('nothing.pth', 'target.pth', status=1)
    torch.save(model.state_dict(), 'tensors.pth')
    Path('target.pth').write_text('kept')
    assert '--force overwrites it' in convert(
        'tensors.pth', 'target.pth', status=1)
    assert Path('target.pth').read_text() == 'kept'
    convert('tensors.pth', 'target.pth', '--force', '--leave-out', 'head.*')
    assert len(torch.load('target.pth', weights_only=True)['state_dict']) == 50


def test_a_config_without_patches_is_refused(model, tmp_path):
    torch.save(model.state_dict(), 'tensors.pth')
    (tmp_path / 'cnn.py').write_text(
        "model = dict(type='mmpretrain.ImageClassifier', "
        "backbone=dict(type='mmpretrain.ResNet', depth=18))")
    assert 'ResNet, which has no patches' in convert(
        'tensors.pth', 'target.pth', '--config', 'cnn.py', status=1)
