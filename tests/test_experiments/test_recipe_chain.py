"""A real chain: train, export, verified load, fine-tune, test; and a crash.

The tools run in processes that are forked from this one, which has imported
the libraries. With MMMEDMASK_SLOW_RECIPES=1 a second run has Snakemake start
them; test_engine.py does so with tools that take no time.
"""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml
from commands import call
from forked_steps import fork_step, import_libraries

from mmmedmask.experiments.execute import (
    execute_here,
    execute_plan,
    find_failures,
)
from mmmedmask.experiments.manifest import read_manifest
from mmmedmask.experiments.plan import plan_runs
from mmmedmask.experiments.results_table import table_files, write_tables
from mmmedmask.experiments.schema import read_recipe

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
EPOCHS = 30
DOWNSTREAM = """
_base_ = '{base}'
checkpoint = 'work_dirs/{name}/epoch_{epochs}.pth'
model = dict(backbone=dict(init_cfg=dict(
    type='Pretrained', checkpoint=checkpoint, prefix='backbone.')))
default_hooks = dict(
    checkpoint=dict(type='mmmedmask.SafeCheckpointHook',
                    save_best='accuracy/top1'),
    load_check=dict(type='mmmedmask.LoadCheckHook'))
train_cfg = dict(max_epochs=1)
"""


# What argparse itself refuses.
USAGE = ('must be', '--gpus must', '--threads must', 'name a table',
         '--cores 2 is')


def forked(plan):
    return execute_here(plan, TOOLS, fork_step)


def with_snakemake(plan):
    return execute_plan(plan, TOOLS)


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
        rows=[dict(name='ours', title='Ours', paper=dict(accuracy=50),
                   stages=dict(
                       pretrain=dict(config=str(tiny_classification),
                                     options={'train_cfg.max_epochs': EPOCHS}),
                       classify=dict(config='tiny_fine_tuned',
                                     checkpoint='best')))]), sort_keys=False))
    return path


def plan_in(folder, recipe_file):
    recipe = read_recipe(recipe_file)
    return plan_runs([(recipe, recipe.rows)], 'paper', folder)


def table_of(plan):
    recipe, _ = plan.tables[0]
    page = write_tables(plan, recipe, 'the command')
    return page, table_files(plan, recipe)[1].read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize('execute', [
    forked, pytest.param(with_snakemake, marks=pytest.mark.slow_recipes)])
def test_a_chain_survives_a_crash(recipe, tmp_path, execute):
    plan = plan_in(tmp_path / 'runs' / 'paper', recipe)
    pretrain, fine_tuned = (run.folder for run in plan.runs)
    import_libraries()
    process = multiprocessing.get_context('fork').Process(
        target=execute, args=(plan, ))
    process.start()
    while not (pretrain / 'epoch_2.pth').exists():
        assert process.is_alive()
        time.sleep(.02)
    # As if the machine had stopped: the runner and what it had started.
    os.kill(process.pid, signal.SIGKILL)
    holder = (pretrain / 'run.lock').read_text().split()
    os.killpg(int(holder[1]), signal.SIGKILL)
    process.join()
    assert not (pretrain / f'epoch_{EPOCHS}.pth').exists()
    assert execute(plan) == 0
    assert find_failures(plan) == {}
    first, second = read_manifest(pretrain), read_manifest(fine_tuned)
    assert first['steps']['train']['tries'] == 2
    logs = sorted(pretrain.glob('*/*.log'))
    # Starts in one second share a log.
    assert 'resumed epoch' in logs[-1].read_text()
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
    page, sheet = table_of(plan)
    assert f'| Ours | 50.0 / {accuracy:.1f} (1) / {accuracy - 50:+.1f} |' in \
        page
    # The table is that of a chain that nothing has disturbed.
    other = plan_in(tmp_path / 'undisturbed', recipe)
    assert execute(other) == 0
    assert table_of(other) == (page, sheet)
    for run, same in zip(plan.runs, other.runs, strict=True):
        weights = [torch.load(one.checkpoint('last'), weights_only=False)[
            'state_dict'] for one in (run, same)]
        assert all(torch.equal(weights[0][name], value)
                   for name, value in weights[1].items())
    # Nothing is left to do; the same commands are what --dry-run shows.
    assert execute(plan) == 0
    assert read_manifest(pretrain) == first
    shown = call('reproduce.py', recipe, '--work-dir', tmp_path / 'runs',
                 '--dry-run').splitlines()
    done = [step['command'] for manifest in (first, second)
            for step in manifest['steps'].values()]
    assert [line for line in shown if not line.startswith('#')] == done


@pytest.mark.parametrize(('arguments', 'message'), [
    (['no_table'], "'no_table' is neither a file nor a recipe"),
    (['RECIPE', '--only', 'our'], "no row 'our'. Did you mean ours?"),
    (['RECIPE', 'RECIPE', '--seeds', '1', '1'], 'must be different numbers'),
    (['RECIPE', '--gpus', '0'], '--gpus must be at least 1, got 0'),
    (['RECIPE', '--threads', '0'], '--threads must be at least 1, got 0'),
    (['RECIPE', '--folds', '0', '1'], 'real has no folds: name the folder'),
    (['RECIPE', '--folds', 'a', '0', 'b'],
     "takes one folder and numbers of folds, got ['b']"),
    (['RECIPE', '--scale', 'small', '--data-root', 'my data'],
     "MMEngine would read"),
    (['RECIPE', '--cores', '2', '--executor', 'slurm'],
     '--cores 2 is for this machine; with --executor, --jobs says'),
    (['RECIPE', '--scale', 'smoke', '--executor', 'slurm',
      '--jobs', '20', '--gpus', '2', '--folds', 'data/folds', '1', '--',
      '--retries', '2'],
     'without --executor slurm, --jobs 20, --gpus 2, '
     '--folds data/folds 1, -- --retries 2'),
    ([], 'name a table, or see --list')])
def test_says_what_is_wrong(recipe, arguments, message, tmp_path):
    text = recipe.read_text().replace(
        'train_cfg.max_epochs: 30', 'train_dataloader.dataset.data_root: '
        'data/tiles')
    recipe.write_text(text)
    output = call(
        'reproduce.py', '--work-dir', tmp_path / 'runs',
        *(recipe if word == 'RECIPE' else word for word in arguments),
        cwd=tmp_path, status=2 if message.startswith(USAGE) else 1)
    assert message in output
    assert not (tmp_path / 'runs').exists()


def test_lists_tables(recipe):
    output = call('reproduce.py', '--list')
    assert 'gimp_table1: ' in output
    assert '  gimp_scratch ' in output
    assert call('reproduce.py', recipe, '--list') == \
        'real: Real (None, Table 0)\n  ours  Ours\n'
