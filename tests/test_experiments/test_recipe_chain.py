"""A real chain: train, export, verified load, fine-tune, test; and a crash.

The tools run in processes that are forked from this one, which has imported
the libraries. With MMMEDMASK_SLOW_RECIPES=1 a second run starts them as a user
does; test_recipe_execution.py does so with tools that take no time.
"""

import json
import multiprocessing
import os
import runpy
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

import mmmedmask.experiments.execute as execute_module
from mmmedmask.experiments.execute import StepFailedError, SubprocessExecutor
from mmmedmask.experiments.manifest import note_holder, read_manifest

REPRODUCE = Path(__file__).resolve().parents[2] / 'tools' / 'reproduce.py'
EPOCHS = 30
DOWNSTREAM = """
_base_ = '{base}'
checkpoint = 'work_dirs/{name}/epoch_{epochs}.pth'
model = dict(backbone=dict(init_cfg=dict(
    type='Pretrained', checkpoint=checkpoint, prefix='backbone.')))
default_hooks = dict(
    checkpoint=dict(save_best='accuracy/top1'),
    load_check=dict(type='mmmedmask.LoadCheckHook'))
train_cfg = dict(max_epochs=1)
"""


FORK = multiprocessing.get_context('fork')


class ForkExecutor:
    """Starts the tools without a new interpreter."""

    def run_step(self, run, step, lock, watch):
        log = run.folder / f'{step.name}.log'
        process = FORK.Process(target=self._run_tool,
                               args=(step.command[1:], log))
        process.start()
        note_holder(lock.descriptor, f'process {process.pid}')
        while process.is_alive():
            watch()
            process.join(.05)
        if process.exitcode:
            raise StepFailedError(log.read_text())

    @staticmethod
    def _run_tool(command, log):
        os.setsid()
        with log.open('a') as stream:
            for number in (1, 2):
                os.dup2(stream.fileno(), number)
            sys.stdout = sys.stderr = stream
            sys.argv = list(command)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            runpy.run_path(command[0], run_name='__main__')


def reproduce(*arguments):
    """Run the tool in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [str(REPRODUCE), *map(str, arguments)])
        # Signals are the test's.
        patch.setattr(signal, 'signal', lambda *arguments: None)
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(REPRODUCE), run_name='__main__')
    return caught.value.code


@pytest.fixture
def recipe(tiny_classification, tmp_path):
    pretrain = tiny_classification.stem
    (tmp_path / 'tiny_fine_tuned.py').write_text(DOWNSTREAM.format(
        base=tiny_classification, name=pretrain, epochs=EPOCHS))
    path = tmp_path / 'real.yml'
    path.write_text(yaml.safe_dump(dict(
        name='real', title='Real', paper='None, Table 0', seeds=[3],
        columns=[dict(name='accuracy', title='Accuracy', stage='classify',
                      metric='accuracy/top1')],
        rows=[
            dict(name='ours', title='Ours', paper=dict(accuracy=50),
                 stages=dict(
                     pretrain=dict(
                         config=str(tiny_classification),
                         options={'train_cfg.max_epochs': EPOCHS}),
                     classify=dict(config='tiny_fine_tuned',
                                   checkpoint='best')))
        ]), sort_keys=False))
    return path


@pytest.mark.slow
@pytest.mark.parametrize('executor', [
    ForkExecutor,
    pytest.param(SubprocessExecutor, marks=pytest.mark.slow_recipes)])
def test_a_chain_survives_a_crash(recipe, tmp_path, capsys, executor,
                                  monkeypatch):
    monkeypatch.setattr(execute_module, 'SubprocessExecutor', executor)
    work_dir = tmp_path / 'runs'
    arguments = (recipe, '--work-dir', work_dir)
    process = FORK.Process(target=reproduce, args=arguments)
    process.start()
    folder = work_dir / 'paper'
    while not list(folder.glob('*/seed3/epoch_2.pth')):
        assert process.is_alive()
        time.sleep(.02)
    # As if the machine had stopped: the runner and what it had started.
    os.kill(process.pid, signal.SIGKILL)
    pretrain = next(folder.glob('tiny_classification-*/seed3'))
    holder = (pretrain / 'run.lock').read_text().split()
    os.killpg(int(holder[1]), signal.SIGKILL)
    process.join()
    assert not (pretrain / f'epoch_{EPOCHS}.pth').exists()

    assert reproduce(*arguments) == 0
    output = capsys.readouterr().out
    assert '[2/2] tiny_fine_tuned, seed 3: done in' in output
    assert '100 % loaded' in output
    first = read_manifest(pretrain)
    assert first['steps']['train']['tries'] == 2
    logs = sorted(pretrain.glob('*/*.log'))
    assert len(logs) == 2
    assert 'resumed epoch' in logs[1].read_text()
    fine_tuned = next(folder.glob('tiny_fine_tuned-*/seed3'))
    second = read_manifest(fine_tuned)
    check, = second['load_checks']
    assert check['percent'] == 100
    assert str(pretrain / 'backbone.pth') in check['what']
    # What was exported is what the pre-training had at its end.
    made = torch.load(pretrain / f'epoch_{EPOCHS}.pth', weights_only=False)
    given = torch.load(pretrain / 'backbone.pth', weights_only=True)
    assert given['state_dict']
    for name, value in given['state_dict'].items():
        assert torch.equal(value, made['state_dict'][name])
    assert made['meta']['seed'] == 3
    # The metric is the one of the best checkpoint's own test.
    file, = (fine_tuned / 'test_best').glob('*/*.json')
    accuracy = json.loads(file.read_text())['accuracy/top1']
    assert second['results']['best']['accuracy/top1'] == accuracy
    assert f'| Ours | 50.0 / {accuracy:.1f} (1) / {accuracy - 50:+.1f} |' in \
        output
    assert (folder / 'real.csv').read_text().count('\n') == 2

    # Nothing is left to do; the same commands are what --dry-run shows.
    assert reproduce(*arguments) == 0
    assert 'train' not in capsys.readouterr().out.partition('# Real')[0]
    assert reproduce(*arguments, '--dry-run') == 0
    shown = capsys.readouterr().out.splitlines()
    done = [step['command'] for manifest in (first, second)
            for step in manifest['steps'].values()]
    assert [line for line in shown if not line.startswith('#')] == done


@pytest.mark.parametrize(('arguments', 'message'), [
    (['no_table'], "'no_table' is neither a file nor a recipe"),
    (['RECIPE', '--only', 'our'], "no row 'our', the nearest is 'ours'"),
    (['RECIPE', 'RECIPE', '--seeds', '1', '1'], 'must be different numbers'),
    (['RECIPE', '--gpus', '0'], 'must be at least 1'),
    (['RECIPE', '--scale', 'small', '--data-root', 'my data'],
     "MMEngine would read"),
    ([], 'name a table, or see --list'),
])
def test_says_what_is_wrong(recipe, arguments, message, capsys, tmp_path,
                            monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = recipe.read_text().replace(
        'train_cfg.max_epochs: 30', 'train_dataloader.dataset.data_root: '
        'data/tiles')
    recipe.write_text(text)
    code = reproduce(*(recipe if one == 'RECIPE' else one
                       for one in arguments), '--work-dir', tmp_path / 'runs')
    assert message in f'{code}{capsys.readouterr().err}'
    assert not (tmp_path / 'runs').exists()


def test_lists_tables(recipe, capsys):
    assert reproduce('--list') == 0
    output = capsys.readouterr().out
    assert 'gimp_table1: ' in output
    assert '  gimp_scratch ' in output
    assert reproduce(recipe, '--list') == 0
    assert capsys.readouterr().out == 'real: Real (None, Table 0)\n' \
        '  ours  Ours\n'
