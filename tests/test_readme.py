"""The README can be followed: its files exist, its configs and commands work.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.runner import Runner
from PIL import Image

from mmmedmask.apis import load_config
from mmmedmask.testing.configs import shrink_config
from mmmedmask.testing.glands import write_tissue_tiles

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text('utf-8')
BLOCKS = re.findall(r'^```(\w+)\n(.*?)^```', README, re.MULTILINE | re.DOTALL)
# Made by commands that come before in the README.
MADE_BEFORE = {'.venv/bin/activate'}


def read_commands():
    """All shell commands, as lists of words without their environment."""
    text = '\n'.join(code for language, code in BLOCKS if language == 'bash')
    commands = []
    for line in text.replace('\\\n', ' ').splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r'[A-Z_]+=\S*', words[0]):
            words.pop(0)
        if words:
            commands.append(words)
    return commands


def read_configs():
    """Configs that the README tells to write, by the name that it gives."""
    configs = {}
    for found in re.finditer(r'^```python\n(.*?)^```', README,
                             re.MULTILINE | re.DOTALL):
        name = re.findall(r'`(my_\w+\.py)`', README[:found.start()])[-1]
        configs[name] = found[1]
    return configs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the README's configs."""
    for name, text in read_configs().items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def find_configs(name):
    return [path for path in (ROOT / 'configs').rglob('*.py')
            if path.name == name]


def check_python(words):
    script, *arguments = words
    source = ROOT / script
    assert source.is_file(), script
    # Converters of one kind share their options.
    text = source.read_text() + ''.join(
        shared.read_text() for shared in source.parent.glob('*_cli.py')
        if f'from {shared.stem} import' in source.read_text())
    for argument in arguments:
        if argument.startswith('--'):
            # argparse declares every option by its literal name.
            assert f"'{argument}'" in text, argument
        elif argument.endswith('.py'):
            assert (argument in read_configs()
                    or (ROOT / argument).is_file()), argument


def check_bash(words):
    assert (ROOT / words[0]).is_file(), words[0]
    check_python([
        'tools/train.py', *(word for word in words[1:]
                            if word.startswith('--') or '.py' in word)
    ])


def check_make(words):
    makefile = (ROOT / 'Makefile').read_text()
    for target in words:
        assert re.search(rf'^{target}:', makefile, re.MULTILINE), target


def check_mim(words):
    assert words[:2] == ['train', 'mmmedmask']
    assert words[2] in read_configs() or len(find_configs(words[2])) == 1


def check_source(words):
    assert set(words) <= MADE_BEFORE


def test_found_commands_and_configs():
    """A wrong pattern must not make empty tests that pass."""
    assert len(read_commands()) >= 10
    assert len(read_configs()) >= 2
    assert README.count('```') == 2 * len(BLOCKS)


@pytest.mark.parametrize('command', read_commands(), ids=' '.join)
def test_commands_name_what_exists(command):
    checks = dict(python=check_python, bash=check_bash, make=check_make,
                  mim=check_mim, source=check_source)
    assert command[0] in checks, f'{command[0]} is a command of what?'
    checks[command[0]](command[1:])


@pytest.mark.parametrize('name', read_configs())
def test_configs_are_short_and_load(folder, name):
    lines = [line for line in read_configs()[name].splitlines() if line]
    assert len(lines) <= 5
    config = load_config(folder / name)
    written = {}
    exec(read_configs()[name], written)
    # The value that the README writes is the one that counts.
    if name == 'my_tiles.py':
        dataset = config.train_dataloader.dataset
        assert dataset.data_root == 'path/to/tiles'
        assert config.train_cfg.max_epochs == 100
    else:
        init_cfg = config.model.backbone.init_cfg
        assert init_cfg.type == 'Pretrained'
        assert init_cfg.checkpoint == written['checkpoint']


def test_checkpoints_have_the_names_that_runs_give_them(folder):
    """The last epoch and the last iteration are what the configs say."""
    tiles = load_config(folder / 'my_tiles.py')
    glands = load_config(folder / 'my_glands.py')
    last = {
        f'work_dirs/my_tiles/epoch_{tiles.train_cfg.max_epochs}.pth',
        f'work_dirs/my_glands/iter_{glands.train_cfg.max_iters}.pth'
    }
    assert set(re.findall(r'work_dirs/[\w/]+\.pth', README)) == last


@pytest.mark.slow
def test_own_tiles_train(folder):
    """Only the sizes are smaller than in the README's config."""
    config = load_config(folder / 'my_tiles.py')
    config = shrink_config(config, folder / 'run')
    epochs = config.train_cfg.max_epochs = 3
    runner = Runner.from_cfg(config)
    runner.train()
    assert runner.epoch == epochs
    # The learning rate follows the number of epochs to its end.
    assert runner.param_schedulers[0].end == runner.max_iters
    assert runner.optim_wrapper.get_lr()['lr'][0] < 0.1 * 0.03
    pictures = list(folder.rglob('vis_data/vis_image/*.png'))
    assert any('reconstruction' in path.name for path in pictures)


@pytest.mark.slow
def test_browse_command_runs(folder):
    """As written, on tiles where the README's config expects them."""
    write_tissue_tiles(folder / 'path' / 'to' / 'tiles', 256, 256)
    command, = (c for c in read_commands() if 'browse_dataset.py' in c[1])
    script, *arguments = command[1:]
    result = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        capture_output=True,
        text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    out = folder / command[command.index('--out') + 1]
    assert len(list(out.glob('*.png'))) == 4


def read_links():
    return re.findall(r'\]\(([^)]+)\)', README)


def anchors_of(document):
    """Anchors that a Markdown viewer gives to headings."""
    headings = re.findall(r'^#+ (.+)$', document.read_text(), re.MULTILINE)
    return {
        re.sub(r'[^\w\- ]', '', heading).strip().lower().replace(' ', '-')
        for heading in headings
    }


def test_links_lead_somewhere():
    assert len(read_links()) > 5
    for link in read_links():
        path, _, anchor = link.partition('#')
        target = ROOT / path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target), link


def test_picture_is_there_and_small():
    pictures = [link for link in read_links() if link.endswith('.png')]
    assert len(pictures) >= 1
    for name in pictures:
        assert (ROOT / name).stat().st_size < 300_000
        with Image.open(ROOT / name) as picture:
            assert 600 <= picture.width <= 1400


@pytest.mark.parametrize('method', ['cmim', 'msmae', 'gimp'])
def test_says_what_is_planned(method):
    """A method is either there, with configs, or called planned."""
    row, = (line for line in README.splitlines()
            if line.lower().startswith(f'| **{method}**'))
    state = row.rstrip(' |').rpartition('|')[2].strip()
    exists = (ROOT / 'configs' / method).is_dir()
    assert state == ('here' if exists else 'planned')
