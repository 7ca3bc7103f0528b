"""The demo at its smallest size: every step, the report, its pictures."""

import argparse
import base64
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import call, load
from pages import check_page, open_page
from PIL import Image

from mmmedmask.apis import load_config
from mmmedmask.config_files import runner_keys
from mmmedmask.engine.checkpoint.reading import read_checkpoint
from mmmedmask.util.command_line import add_config_options
from mmmedmask.util.nested import walk_nested

ROOT = Path(__file__).resolve().parents[2]


def run_demo(*arguments, **environment):
    return subprocess.run(
        [sys.executable, str(ROOT / 'tools' / 'demo.py'), *arguments],
        capture_output=True, text=True, env={**os.environ, **environment})


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """Output of a smoke run, and its folder."""
    out = tmp_path_factory.mktemp('demo') / 'new folder'
    result = run_demo('--smoke', '--out', str(out))
    log = (out / 'demo.log').read_text(errors='replace')
    assert result.returncode == 0, result.stdout + log[-5000:]
    return result, out


def is_blank(picture):
    """Whether a picture shows (nearly) one colour only."""
    pixels = np.asarray(picture.convert('RGB')).reshape(-1, 3)
    common = (pixels == np.median(pixels, axis=0)).all(axis=1).mean()
    return common > 0.98 or pixels.std(axis=0).max() < 5


@pytest.mark.slow
def test_says_what_it_does_and_no_more(demo):
    result, out = demo
    assert result.stderr == ''
    lines = result.stdout.splitlines()
    assert str(out / 'report.html') in lines[-1]
    for step in ('Libraries', 'Data', 'Pre-training', 'Export', 'Probe',
                 'Mask R-CNN', 'Pictures', 'Masking', 'Classifier', 'Genes',
                 'Slides', 'Slides + genes'):
        assert any(line.startswith(f'  {step} ') for line in lines), step
    # Logs and warnings of libraries are in the file.
    assert len(lines) < 40
    assert 'mmengine' not in result.stdout
    assert 'mmengine - INFO' in (out / 'demo.log').read_text()


@pytest.mark.slow
def test_report_and_its_pictures(demo):
    _, out = demo
    page = (out / 'report.html').read_text()
    sources = re.findall(r'<img alt="([^"]*)" src="data:image/png;base64,'
                         r'([^"]*)"', page)
    assert len(sources) == page.count('<img') >= 8
    for caption, data in sources:
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert min(picture.size) > 150, caption
        assert not is_blank(picture), caption
    assert re.search(r'box AP in %</td>\s*<td>-?\d+\.\d</td>', page)
    assert re.search(r'Lesions masked</td>\s*<td>\d+% of the time', page)
    assert page.count('right</td>') == 3
    assert re.search(r'cmim - random</td>\s*<td>1</td>\s*<td>[+-]\d', page)
    assert re.search(r'Attention in the planted region</td>\s*<td>\d+%', page)
    assert page.count('tensors are equal (100.0 %)') >= 4
    assert check_page(out / 'report.html') == len(sources)
    assert 'demo_output' not in page
    # By chance, four letters of a picture spell it as well.
    assert 'http' not in re.sub(r'base64,[^"]*', '', page)
    files = sorted((out / 'pictures').glob('*.png'))
    assert len(files) == len(sources)
    for file in (*files, out / 'overview.png'):
        assert not is_blank(Image.open(file)), file


@pytest.mark.slow
def test_report_in_a_browser(demo):
    _, out = demo
    seen = open_page(out / 'report.html')
    assert seen['pictures'] == len(list((out / 'pictures').glob('*.png')))
    batches = re.findall(r'Iterations\s+\d+ of (\w+) \w+', seen['text'])
    assert len(batches) == 4
    assert all(number.isdigit() for number in batches)


@pytest.mark.slow
def test_runs_their_data_and_their_weights(demo):
    """Own logs; tiles held out; the exported encoder is the pre-trained."""
    _, out = demo
    for run in ('cmim/pretraining', 'cmim/mask_rcnn', 'msmae/pretraining',
                'msmae/fine_tuning', 'gimp/genes', 'gimp/pretraining',
                'gimp/slides', 'gimp/slides_and_genes'):
        logged, = (out / run).rglob('vis_data/scalars.json')
        assert '"loss"' in logged.read_text()
    train, held_out = (
        [int(file.stem.split('_')[2])
         for file in (out / 'data' / 'ihc_tiles' / split).iterdir()]
        for split in ('train', 'held_out'))
    assert len(train) > 100
    assert len(held_out) > 10
    assert max(train) + 96 <= min(held_out), 'they share pixels'
    exported = torch.load(
        out / 'cmim' / 'backbone.pth', weights_only=True)['state_dict']
    trained = read_checkpoint(
        out / 'cmim' / 'pretraining' / 'epoch_2.pth')['state_dict']
    assert len(exported) > 100
    for name, value in exported.items():
        assert torch.equal(value, trained[name]), name


def test_names_what_it_cannot_write(tmp_path):
    blocked = tmp_path / 'file'
    blocked.write_text('')
    result = run_demo('--out', str(blocked / 'below'))
    assert result.returncode == 1
    assert str(blocked) in result.stderr
    assert '--out' in result.stderr


@pytest.mark.slow
def test_explains_failures(tmp_path):
    """Anything that breaks on the way is named, with advice and the log."""
    (tmp_path / 'data').write_text('a file where a folder belongs')
    printed = call('demo.py', '--smoke', '--out', tmp_path, status=1,
                   fork=True)
    assert 'The demo failed: ' in printed
    assert str(tmp_path / 'data') in printed
    assert '--out names another one' in printed
    assert 'Traceback' not in printed
    assert str(tmp_path / 'demo.log') in printed
    assert 'Traceback' in (tmp_path / 'demo.log').read_text()


def test_configs_read_what_the_demo_writes(tmp_path):
    load('demo.py')
    from demo_parts.runs import CONFIGS, last_checkpoint, relocate
    config = load_config(
        CONFIGS / 'cmim/demo/cmim_resnet18_1xb32-coslr-12e_ihc-tiles.py')
    relocate(config, tmp_path)
    # And nothing that is held out.
    assert config.train_dataloader.dataset.data_root == str(
        tmp_path / 'data' / 'ihc_tiles' / 'train')
    fine_tuning = CONFIGS / ('msmae/demo/vit-micro-p8_msmae-random-tokens_'
                             '1xb32-6e_lesion-phantoms.py')
    folder = tmp_path / 'msmae' / 'pretraining'
    for written, expected in ((None, 'epoch_12.pth'),
                              (folder / 'epoch_2.pth', 'epoch_2.pth')):
        if written:
            folder.mkdir(parents=True)
            (folder / 'last_checkpoint').write_text(str(written))
            assert last_checkpoint(folder) == written
        config = load_config(fine_tuning)
        relocate(config, tmp_path)
        assert config.model.backbone.init_cfg.checkpoint == str(
            folder / expected)
        assert config.val_evaluator.data_root == str(
            tmp_path / 'data' / 'lesion_phantoms')


def test_commands_read_what_the_demo_has_written(tmp_path):
    """Those of the report, wherever --out is."""
    load('demo.py')
    from demo_parts.runs import CONFIGS, DEFAULT_OUT, Part
    parser = argparse.ArgumentParser()
    parser.add_argument('words', nargs='*')
    add_config_options(parser)
    for file in CONFIGS.glob('*/demo/*.py'):
        name, out = str(file.relative_to(CONFIGS)), tmp_path / 'a folder'
        part = Part(SimpleNamespace(out=out), 'cmim')
        part.add_command('test', 'test', name, out / 'epoch_1.pth')
        words = shlex.split(part.commands[1].replace('\\\n', ''))
        args = parser.parse_args(words)
        assert args.words == ['python', 'tools/test.py', f'configs/{name}',
                              str(out / 'epoch_1.pth')]
        texts = [value for place, value in walk_nested(
            load_config(file, args.cfg_options).to_dict())
            if isinstance(value, str) and place[0] in runner_keys()]
        assert any(text.startswith(str(out)) for text in texts)
        assert not any(text.startswith(DEFAULT_OUT) for text in texts)
        default = Part(SimpleNamespace(out=Path(DEFAULT_OUT)), 'cmim')
        default.add_command('test', 'test', name)
        assert default.commands[1].endswith(name)


@pytest.mark.parametrize('color', [255, 0])
def test_a_blank_picture_would_be_noticed(color):
    pixels = np.full((50, 60, 3), color, np.uint8)
    assert is_blank(Image.fromarray(pixels))
    pixels[10:40, 10:40] = np.random.default_rng(0).integers(
        0, 256, (30, 30, 3))
    assert not is_blank(Image.fromarray(pixels))
