"""The tools for slides, most of them run in this process, to save time."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmmedmask.datasets import SlideOmicDataset
from mmmedmask.datasets.slide_features import SlideFeatures

TOOLS = Path(__file__).resolve().parents[1] / 'tools'


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a tool as its command line would, and return what it says."""

    def run_tool(name, *arguments, fails=False):
        path = TOOLS / name
        monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
        monkeypatch.syspath_prepend(path.parent)
        code = None
        try:
            runpy.run_path(str(path), run_name='__main__')
        except SystemExit as end:
            code = end.code
        assert bool(code) == fails, code
        said = code if isinstance(code, str) else ''
        return capsys.readouterr().out + said

    return run_tool


@pytest.fixture
def tile_folders(tmp_path):
    random = np.random.default_rng(0)
    lines = ['cluster_label,img_path']
    for label in ('aca', 'scc'):
        (tmp_path / label).mkdir()
        for number in range(12):
            tile = random.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(tile).save(tmp_path / label / f'{number}.png')
            lines.append(f'{label}{number // 2},./{label}/{number}.png')
    (tmp_path / 'groups.csv').write_text('\n'.join(lines))
    return [tmp_path / 'aca', tmp_path / 'scc']


def test_tiles_become_a_cohort_that_the_data_set_reads(
        call, tile_folders, tmp_path):
    out = tmp_path / 'out'
    command = ('wsi/tiles_to_bags.py', *tile_folders, '--out', out,
               '--groups', tmp_path / 'groups.csv', '--encoder',
               'resnet18-block3', '--random-weights', 0, '--tile-size', 32,
               '--bag-size', 4, '--split', .34, 0, .66, '--mosaics')
    printed = call(*command)
    assert "24 tiles in 6 bags {'train': 2, 'test': 4}" in printed
    dataset = SlideOmicDataset(
        ann_file=str(out / 'cohort.csv'),
        feature_root=str(out / 'features'), split='train',
        modalities=['slides'], pipeline=[])
    assert dataset.metainfo['classes'] == ('aca', 'scc')
    listed = pd.read_csv(out / 'tiles.csv')
    assert (listed.groupby('group').bag.nunique() == 1).all()
    assert len(listed) == 24
    features = SlideFeatures(out / 'features' / 'aca-0000.h5')
    assert (features.dims, features.encoder) == (256, 'resnet18-block3')
    mosaic = np.asarray(Image.open(out / 'mosaics' / 'aca-0000.png'))
    assert mosaic.shape == (64, 64, 3)
    # A second call goes on where the first one stopped.
    (out / 'features' / 'scc-0001.h5').unlink()
    assert call(*command).count('was there') == 5
    printed = call(*command, '--seed', 1, fails=True)
    assert 'was made with other settings (tiles [' in printed


def test_tiles_to_bags_explains_what_is_wrong(call, tile_folders, tmp_path):
    (tile_folders[0] / '0.png').write_bytes(b'no picture')
    printed = call(
        'wsi/tiles_to_bags.py', *tile_folders, '--out', tmp_path / 'out',
        '--encoder', 'resnet18-block3', '--random-weights', 0, '--bag-size',
        2, fails=True)
    assert printed.splitlines()[-1].startswith(
        f'tiles_to_bags.py: Cannot read image {tile_folders[0]}')
