"""Folds in several stages: who trains on whom, what is done again."""

import csv
import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from tiny_folds import skip_training, write_stages

from mmmedmask.apis import CrossValidation, cross_validation, find_folds
from mmmedmask.apis.fold_results import draw_cohort_folds
from mmmedmask.evaluation.patient_tables import read_patients

SCRIPT = Path(__file__).parents[2] / 'tools/cross_validate.py'


@pytest.fixture(scope='module')
def stages(tmp_path_factory):
    """Configs of two stages, and the folds of their cohort."""
    folder = tmp_path_factory.mktemp('stages')
    configs = write_stages(folder)
    draw_cohort_folds(configs[0], None, folder / 'splits', 3)
    return configs, find_folds(folder / 'splits')


def split_of(path):
    with open(path, newline='') as stream:
        rows = list(csv.DictReader(stream))
    return {name: {row[name] for row in rows if row[name]}
            for name in ('train', 'val', 'test')}


class Watch(Hook):
    """Note the epochs and the patients of a run; maybe stop it."""

    def __init__(self, stop_before=None):
        self.stop_before = stop_before
        self.epochs = []
        self.cases = set()

    def before_train_epoch(self, runner):
        if runner.epoch == self.stop_before:
            raise KeyboardInterrupt
        self.epochs.append(runner.epoch)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.cases |= {
            sample.case_id for sample in data_batch['data_samples']}

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.before_train_iter(runner, batch_idx, data_batch)


@pytest.fixture
def watch(monkeypatch):
    """Let the next runs be watched by a hook."""
    original = cross_validation.build_runner

    def start(hook):
        def build(config):
            runner = original(config)
            runner.register_hook(hook)
            return runner

        monkeypatch.setattr(cross_validation, 'build_runner', build)
        return hook

    return start


def test_chain_of_stages(stages, tmp_path, watch):
    configs, folds = stages
    validation = CrossValidation(configs, folds, tmp_path)
    # Interrupted in the third epoch of the first stage.
    watch(Watch(stop_before=2))
    with pytest.raises(KeyboardInterrupt):
        validation.run_fold(None, 1)
    seen = watch(Watch())
    values = validation.run_fold(None, 1)
    assert seen.epochs == [2, 0, 1, 2]
    names = split_of(folds[1])
    assert seen.cases == names['train'] | names['val']
    assert not seen.cases & names['test']

    fold = tmp_path / 'fold_1'
    table = read_patients(fold / 'test' / 'patients.csv')
    assert set(table.case_ids) == names['test']
    assert set(table.modalities) == {'slides+genes'}
    saved = json.loads((fold / 'test' / 'scores.json').read_text())
    assert saved == values
    assert np.mean(table.scores.argmax(axis=1) == table.labels
                   ) == values['slide/accuracy']

    # The second stage has the first one's frozen gene encoder and scale.
    checkpoints = []
    # The first hands on its last, as its config does by itself.
    for config, kept in zip(configs, ('epoch_3.pth', 'best_slide_auc_epoch_'),
                            strict=True):
        # Each run writes its own scalars.
        assert list(
            (fold / config.stem).glob('*/vis_data/*.json'))
        stage = json.loads((fold / config.stem / 'stage.json').read_text())
        assert stage['finished'].startswith(kept)
        checkpoints.append(torch.load(
            fold / config.stem / stage['finished'],
            weights_only=False)['state_dict'])
    first, second = checkpoints
    compared = [name for name in first if name.startswith('gene_encoder.')]
    assert len(compared) > 2
    for name in compared:
        assert torch.equal(first[name], second[name]), name

    # Nothing is done again, except for what is missing.
    seen = watch(Watch())
    assert validation.run_fold(None, 1) == values
    (fold / 'test' / 'scores.json').unlink()
    (fold / 'test' / 'patients.csv').unlink()
    assert validation.run_fold(None, 1) == values
    assert seen.epochs == []
    assert (fold / 'test' / 'patients.csv').is_file()

    with pytest.raises(ValueError, match='fold_1/genes was made with other '
                       r'settings \(config.optim_wrapper.optimizer.lr\)'):
        CrossValidation(
            configs, folds, tmp_path,
            options={'1:optim_wrapper.optimizer.lr': .5}).run_fold(None, 1)
    with pytest.raises(ValueError, match=r'other settings \(split\)'):
        CrossValidation(configs, {1: folds[2]}, tmp_path).run_fold(None, 1)


def test_stage_whose_source_is_gone(stages, tmp_path, monkeypatch):
    """A later stage must not be taken for one of a new first stage."""
    trained = skip_training(monkeypatch)
    validation = CrossValidation(*stages, tmp_path)
    assert validation.run_fold(None, 0) == dict(auc=.5)
    assert len(trained) == 2
    (tmp_path / 'fold_0' / 'genes' / 'stage.json').unlink()
    with pytest.raises(ValueError, match='fold_0/both was made from an '
                       'earlier run of .*fold_0/genes.*: delete it'):
        validation.run_fold(None, 0)
    shutil.rmtree(tmp_path / 'fold_0' / 'both')
    validation.run_fold(None, 0)
    assert [config.work_dir for config in trained[2:]] == [
        str(tmp_path / 'fold_0' / name) for name in ('genes', 'both')]


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the tool in this process: imports take longer than it does."""
    main = runpy.run_path(str(SCRIPT))['main']

    def call(*arguments):
        monkeypatch.setattr(
            sys, 'argv', ['cross_validate', *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return call


def test_command(stages, tmp_path, command):
    """Draw, run each fold by itself, then make the table of all."""
    config, folds = stages[0][0], tmp_path / 'splits'
    arguments = (config, '--folds', folds, '--work-dir', tmp_path / 'out',
                 '--cfg-options', 'train_cfg.max_epochs=1',
                 '1:optim_wrapper.optimizer.lr=0.02')
    command(*arguments, '--draw', 3, '--select', 0, 2)
    assert not (tmp_path / 'out' / 'fold_1').exists()
    output = command(*arguments)
    lines = output.splitlines()
    table = [line for line in lines if line.startswith('|')]
    assert [line.split('|')[1].strip() for line in table[2:]] == [
        'fold 0', 'fold 1', 'fold 2', 'mean ± sd', 'pooled']
    assert '| pooled | 24 |' in table[-1]
    assert (tmp_path / 'out' / 'results.md').read_text() == '\n'.join(
        table) + '\n'
    with open(tmp_path / 'out' / 'results.csv', newline='') as stream:
        rows = {row['run']: row for row in csv.DictReader(stream)}
    accuracies = [float(rows[f'fold {fold}']['accuracy'])
                  for fold in range(3)]
    assert float(rows['mean']['accuracy']) == pytest.approx(
        np.mean(accuracies))
    assert float(rows['sd']['accuracy']) == pytest.approx(
        np.std(accuracies, ddof=1))
    # All folds have eight patients: the pooled accuracy is the mean, too.
    assert float(rows['pooled']['accuracy']) == pytest.approx(
        np.mean(accuracies))
    assert (float(rows['pooled low']['auc']) < float(rows['pooled']['auc'])
            < float(rows['pooled high']['auc']))
    # The folds that are there stay.
    with pytest.raises(SystemExit, match='has other splits already'):
        command(*arguments, '--draw', 3, '--draw-seed', 5)
    with pytest.raises(SystemExit, match=r'--select \[7\]: .* \[0, 1, 2\]'):
        command(*arguments, '--select', 7)
    with pytest.raises(SystemExit, match='both.py starts from .*missing.pth'
                       '.*allowed: --pretrained missing.pth'):
        command(stages[0][1], *arguments[1:-3])
    with pytest.raises(SystemExit, match=r"pretrained=\['b.pth'\] is what no"):
        command(*arguments, '--pretrained', 'b.pth')


def test_seeds_have_their_folders(stages, tmp_path):
    configs, folds = stages
    validation = CrossValidation(
        configs[:1], {0: folds[0]}, tmp_path, seeds=(3, 4))
    assert validation.runs() == [(3, 0), (4, 0)]
    (config, ) = validation.stage_configs(4, 0)
    assert config.randomness.seed == 4
    assert config.work_dir == str(tmp_path / 'seed_4' / 'fold_0' / 'genes')
    for loader in ('train', 'val', 'test'):
        assert config[f'{loader}_dataloader'].dataset.split_file == str(
            folds[0])


def test_same_config_twice_and_options_of_a_stage(stages, tmp_path):
    configs, folds = stages
    first, second = CrossValidation(
        [configs[0]] * 2, folds, tmp_path,
        options={'train_cfg.max_epochs': 9, '2:train_cfg.max_epochs': 7}
    ).stage_configs(None, 0)
    assert Path(first.work_dir).name == 'genes'
    assert Path(second.work_dir).name == 'genes_2'
    assert first.train_cfg.max_epochs == 9
    assert second.train_cfg.max_epochs == 7


def changed(config, **values):
    config = Config.fromfile(config)
    config.merge_from_dict(
        {key.replace('__', '.'): value for key, value in values.items()})
    return config


@pytest.mark.parametrize(('values', 'message'), [
    (dict(train_dataloader__dataset__split=None),
     "train_dataloader.dataset .* must have split='train'.*, got None"),
    (dict(val_dataloader__dataset__split='test'),
     "val_dataloader.dataset .* must have split='val' .*, got 'test'"),
    (dict(test_dataloader__dataset__split='val'),
     "test_dataloader.dataset .* must have split='test' .*, got 'val'"),
    (dict(custom_hooks=[dict(type='Probe', data=dict(
        type='mmmedmask.SlideOmicDataset', split='test'))]),
     "custom_hooks.0.data .* must have split='train' or 'val', got 'test'"),
])
def test_data_sets_that_would_leak(stages, values, message):
    with pytest.raises(ValueError, match=message):
        cross_validation.set_fold(
            changed(stages[0][0], **values), '/splits_0.csv')


def test_configs_that_do_not_fit(stages, tiny_classification):
    with pytest.raises(ValueError, match='has no SlideOmicDataset'):
        cross_validation.set_fold(
            Config.fromfile(tiny_classification), '/splits_0.csv')
    config = changed(stages[0][0], test_evaluator=None)
    with pytest.raises(ValueError, match='nothing to test: .*test_evaluator'):
        cross_validation.check_testable(config)


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(configs=[]), 'at least one config'),
    (dict(folds={}), 'no fold to run'),
    (dict(checkpoint='first'), "checkpoint must be .*, got 'first'"),
    (dict(options={'3:train_cfg.max_epochs': 1}),
     "for stage '3', stages are 1 to 1"),
])
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        CrossValidation(**dict(
            configs=['a.py'], folds={0: tmp_path}, work_dir=tmp_path)
            | arguments)


def test_folder_without_folds(tmp_path):
    with pytest.raises(FileNotFoundError, match='has no splits_0.csv'):
        find_folds(tmp_path)
