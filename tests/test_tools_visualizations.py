"""browse_dataset.py and visualize_reconstruction.py, run as users do."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmmedmask.phantoms.glands import write_gland_dataset, write_image
from mmmedmask.visualization.reconstruction import MASK_COLOR, OUTLINE_COLOR

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / 'tools' / 'visualizations'

TINY = """
_base_ = {base!r}
model = dict(
    data_preprocessor=dict(view_size=64, patch_size=16),
    backbone=dict(stem_channels=8, base_channels=8),
    neck=dict(embed_dims=16, num_heads=2, out_stride=16),
    head=dict(patch_size=16))
train_dataloader = dict(dataset=dict(data_root={tiles!r}))
"""


def run(name, *arguments, status=0):
    result = subprocess.run(
        [sys.executable, str(TOOLS / name), *map(str, arguments)],
        capture_output=True,
        text=True)
    output = result.stdout + result.stderr
    assert result.returncode == status, output
    return output


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """A config, its tiles, and a checkpoint with untrained weights."""
    from mmengine.registry import MODELS, init_default_scope

    from mmmedmask.apis import load_config

    folder = tmp_path_factory.mktemp('tiny')
    random = np.random.default_rng(0)
    (folder / 'tiles').mkdir()
    for number in range(5):
        tile = random.integers(0, 256, (6, 8, 3), np.uint8)
        tile = tile.repeat(16, axis=0).repeat(16, axis=1)
        write_image(folder / 'tiles' / f'{number}.png', tile)
    config = folder / 'tiny.py'
    base = ROOT / 'configs/cmim/cmim_resnet18_8xb32-coslr-800e_tile-folder.py'
    config.write_text(
        TINY.format(base=str(base), tiles=str(folder / 'tiles')))
    loaded = load_config(config)
    init_default_scope('mmpretrain')
    model = MODELS.build(loaded.model)
    torch.save(dict(state_dict=model.state_dict()), folder / 'tiny.pth')
    return folder


def count(picture, color):
    return int((np.asarray(picture) == color).all(axis=2).sum())


@pytest.mark.slow
def test_reconstruction_panel(tiny, tmp_path):
    out = tmp_path / 'new' / 'panel.png'
    printed = run('visualize_reconstruction.py', tiny / 'tiny.py',
                  tiny / 'tiny.pth', '--out', out, '--indices', 4, 0)
    assert printed.strip().endswith(str(out))
    panel = Image.open(out).convert('RGB')
    # 11 of 16 patches of 16 x 16 pixels in two tiles, enlarged by 2.
    assert count(panel, MASK_COLOR) == 2 * 11 * 32 * 32
    assert count(panel, OUTLINE_COLOR) > 100


@pytest.mark.slow
def test_what_the_panel_tool_refuses(tiny, tmp_path):
    arguments = ('visualize_reconstruction.py', tiny / 'tiny.py')
    message = run(*arguments, tiny / 'absent.pth', '--out', tmp_path / 'a.png',
                  status=1)
    assert 'absent.pth' in message
    assert 'Traceback' not in message
    weights = torch.load(tiny / 'tiny.pth')['state_dict']
    weights.pop('neck.norm.weight')
    torch.save(weights, tmp_path / 'incomplete.pth')
    message = run(*arguments, tmp_path / 'incomplete.pth', '--out',
                  tmp_path / 'a.png', status=1)
    assert 'neck.norm.weight' in message
    assert 'Traceback' not in message


@pytest.mark.slow
def test_browse_tiles(tiny, tmp_path):
    printed = run('browse_dataset.py', tiny / 'tiny.py', '--out',
                  tmp_path / 'browse', '--num-samples', 3)
    files = sorted((tmp_path / 'browse').iterdir())
    assert [file.name for file in files] == [
        '000000.png', '000002.png', '000004.png'
    ]
    assert str(files[0]) in printed
    for file in files:
        picture = Image.open(file).convert('RGB')
        # One masked view, enlarged by 3.
        assert count(picture, MASK_COLOR) == 11 * 48 * 48


@pytest.mark.slow
def test_browse_instances(tmp_path):
    write_gland_dataset(tmp_path / 'glands', 3, 1, 96)
    config = tmp_path / 'glands.py'
    base = (ROOT / 'configs/cmim/benchmarks/'
            'mask-rcnn_scratch-resnet18-fpn_8xb2-1x_glas.py')
    config.write_text(f'_base_ = {str(base)!r}\n'
                      'train_dataloader = dict(dataset=dict(data_root='
                      f'{str(tmp_path / "glands")!r}))\n')
    run('browse_dataset.py', config, '--out', tmp_path / 'browse',
        '--num-samples', 2)
    files = sorted((tmp_path / 'browse').iterdir())
    assert len(files) == 2
    picture = np.asarray(Image.open(files[0]).convert('RGB'))
    left, right = np.array_split(picture, 2, axis=1)
    assert (left.mean(axis=(0, 1)) != right.mean(axis=(0, 1))).any()
    assert picture.std() > 20
