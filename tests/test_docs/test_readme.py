"""What README.md tells a newcomer to do works."""

import re

import pytest
from commands import call
from documents import ROOT, read_blocks, read_commands, read_links
from mmengine.runner import Runner
from PIL import Image

from mmmedmask.apis import load_config
from mmmedmask.inspection.schedules import check_batch
from mmmedmask.phantoms.glands import write_tissue_tiles
from mmmedmask.shrinking.shrink import shrink_config

PAGE = ROOT / 'README.md'
README = PAGE.read_text('utf-8')
BLOCKS = read_blocks(README)
COMMANDS = read_commands(README)


def read_configs():
    """Configs that the README tells to write, by the name that it gives."""
    return {re.findall(r'`(my_\w+\.py)`', block.before)[-1]: block.code
            for block in BLOCKS if block.language == 'python'}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the README's configs."""
    for name, text in read_configs().items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_found_commands_and_configs():
    """A wrong pattern must not make empty tests that pass."""
    assert len(COMMANDS) >= 10
    assert len(read_configs()) >= 2
    assert README.count('```') == 2 * len(BLOCKS)


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


def test_rates_fit_the_batch_of_a_gpu(folder):
    """Or the README scales them."""
    scaled = {command[2]: '--auto-scale-lr' in command for command in COMMANDS
              if command[1] == 'tools/train.py'}
    assert read_configs().keys() <= scaled.keys()
    for name, is_scaled in scaled.items():
        own = folder / name
        [finding] = check_batch(
            load_config(own if own.is_file() else ROOT / name), gpus=1)
        assert finding.status == ('yellow' if is_scaled else 'green'), finding


def test_checkpoints_have_the_names_that_runs_give_them(folder):
    """The last epoch and the last iteration are what the configs say."""
    tiles = load_config(folder / 'my_tiles.py')
    glands = load_config(folder / 'my_glands.py')
    last = {f'work_dirs/my_tiles/epoch_{tiles.train_cfg.max_epochs}.pth',
            f'work_dirs/my_glands/iter_{glands.train_cfg.max_iters}.pth'}
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
    assert runner.param_schedulers[-1].end == runner.max_iters
    assert runner.optim_wrapper.get_lr()['lr'][0] < 0.1 * 1e-3
    pictures = list(folder.rglob('vis_data/vis_image/*.png'))
    assert any('reconstruction' in path.name for path in pictures)


@pytest.mark.slow
def test_browse_command_runs(folder):
    """As written, on tiles where the README's config expects them."""
    write_tissue_tiles(folder / 'path' / 'to' / 'tiles', 256, 256)
    command, = (c for c in COMMANDS if 'browse_dataset.py' in c[1])
    script, *arguments = command[1:]
    call(ROOT / script, *arguments)
    out = folder / command[command.index('--out') + 1]
    assert len(list(out.glob('*.png'))) == 4


def test_picture_is_there_and_small():
    pictures = [link for link in read_links(README) if link.endswith('.png')]
    assert len(pictures) >= 1
    for name in pictures:
        assert (ROOT / name).stat().st_size < 300_000
        with Image.open(ROOT / name) as picture:
            assert 600 <= picture.width <= 1400


def test_lists_every_method():
    for method in ('CMIM', 'MSMAE', 'GiMP'):
        assert f'\n| **{method}** (' in README
        assert (ROOT / 'configs' / method.lower()).is_dir()
