"""visualize_attention.py, run as users do; the rest in this process."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run
from PIL import Image

from mmmedmask.phantoms.lesions import write_lesion_dataset
from mmmedmask.visualization.attention_pictures import HATCH_COLOR
from mmmedmask.visualization.reconstruction import MASK_COLOR, OUTLINE_COLOR

TOOL = (Path(__file__).resolve().parents[1] / 'tools' / 'visualizations' /
        'visualize_attention.py')
TINY = """
default_scope = 'mmpretrain'
whole = [
    dict(type='mmmedmask.LoadTile'),
    dict(type='mmmedmask.ResizeImage', scale=64),
    dict(type='mmmedmask.PackTile'),
]
model = dict(
    type='mmmedmask.MSMAE',
    data_preprocessor=dict(
        type='ClsDataPreprocessor', mean=[120.0] * 3, std=[50.0] * 3),
    backbone=dict(
        type='mmmedmask.MSMAEViT', img_size=64, patch_size=8,
        arch=dict(
            embed_dims=16, num_layers=2, num_heads=2,
            feedforward_channels=32)),
    neck=dict(
        type='mmmedmask.MSMAEDecoder', embed_dims=16, num_layers=1,
        num_heads=2),
    head=dict(type='mmmedmask.MSMAEHead', num_classes=3))
train_dataloader = dict(
    dataset=dict(
        type='mmmedmask.LabelledImages', data_root={root!r},
        pipeline=[dict(type='mmmedmask.LoadTile')]))
custom_hooks = [dict(type='mmmedmask.AttentionMaskHook', pipeline=whole)]
"""


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """A config, its images, and a checkpoint with untrained weights."""
    from mmengine.registry import MODELS, init_default_scope

    from mmmedmask.apis import load_config

    folder = tmp_path_factory.mktemp('tiny')
    root = write_lesion_dataset(folder / 'lesions', 5, 1)
    config = folder / 'tiny.py'
    config.write_text(TINY.replace('{root!r}', repr(str(root))))
    init_default_scope('mmpretrain')
    model = MODELS.build(load_config(config).model)
    torch.save(dict(state_dict=model.state_dict()), folder / 'tiny.pth')
    return folder


def draw(tiny, out, monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', [
        str(word) for word in (TOOL, tiny / 'tiny.py', tiny / 'tiny.pth',
                               '--out', out, *arguments)
    ])
    runpy.run_path(str(TOOL), run_name='__main__')


def count(path, color):
    picture = np.asarray(Image.open(path).convert('RGB'))
    return int((picture == color).all(axis=2).sum())


@pytest.mark.slow
def test_attention_panel_of_a_checkpoint(tiny, tmp_path):
    out = tmp_path / 'new' / 'panel.png'
    printed = run(sys.executable, TOOL, tiny / 'tiny.py', tiny / 'tiny.pth',
                  '--out', out, '--indices', 4, 0)
    assert printed.strip().endswith(str(out))
    # 28 of 64 patches of 8 x 8 pixels in two images, enlarged by 2.
    assert count(out, MASK_COLOR) == 2 * 28 * 16 * 16
    assert count(out, OUTLINE_COLOR) > 100
    assert count(out, HATCH_COLOR) > 100


def test_attention_panel_of_any_files(tiny, tmp_path, monkeypatch):
    out = tmp_path / 'panel.png'
    draw(tiny, out, monkeypatch, '--random-masking', '--images',
         *sorted((tiny / 'lesions' / 'images').glob('train_*'))[:3])
    assert count(out, MASK_COLOR) == 3 * 48 * 16 * 16
    assert count(out, OUTLINE_COLOR) == count(out, HATCH_COLOR) == 0


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--images', 'absent.png'], 'absent.png'),
    (['--indices', '5'], '0 to 4'),
    (['--num-samples', '0'], 'at least 1, got 0'),
    (['--split', 'val'], 'no val_dataloader'),
])
def test_what_the_attention_tool_refuses(tiny, tmp_path, monkeypatch,
                                         arguments, message):
    out = tmp_path / 'a.png'
    with pytest.raises(SystemExit, match=f'attention.py: .*{message}'):
        draw(tiny, out, monkeypatch, *arguments)
    assert not out.exists()
