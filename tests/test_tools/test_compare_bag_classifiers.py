"""tools/analysis_tools/compare_bag_classifiers.py as users run it."""

import csv
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from commands import call

from mmmedmask.datasets.conversion.musk import Molecule, MuskConversion

ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / 'configs/mil/small'
MEAN = SMALL / 'mean-pool_1xb8-40e_musk1.py'


@pytest.fixture
def compare(tmp_path, monkeypatch):
    """Run the tool in this process; return its table's lines."""
    # Most of the time would be waiting for the disk.
    monkeypatch.setattr(os, 'fsync', lambda descriptor: None)

    def run(*arguments, status=0, work='work'):
        output = call('analysis_tools/compare_bag_classifiers.py',
                      '--work-dir', tmp_path / work, *arguments, status=status)
        return output if status else ''.join(
            line for line in output.splitlines(keepends=True)
            if line.startswith('|'))

    yield run
    # The tool silences logs.
    logging.disable(logging.NOTSET)


@pytest.fixture
def cohort(tmp_path):
    """Molecules whose class one feature of one shape gives away."""
    generator = np.random.default_rng(0)
    molecules = []
    for number in range(18):
        shapes = generator.normal(size=(3, 166)).astype(np.float32)
        shapes[0, 5] = 12 * (number % 2) - 6
        molecules.append(Molecule(f'molecule-{number:02d}', (
            'non-musk', 'musk')[number % 2], shapes))
    MuskConversion(molecules, num_folds=3).write(tmp_path / 'musk')
    return tmp_path / 'musk'


def options(cohort, *more):
    return ['--cfg-options', *(
        f'{split}_dataloader.dataset.data_root={cohort}'
        for split in ('train', 'test')), 'train_cfg.max_epochs=4',
        'optim_wrapper.optimizer.lr=0.01', *more]


def test_table_and_csv_of_all_folds(cohort, tmp_path, compare):
    out = tmp_path / 'folds.csv'
    output = compare(MEAN, SMALL / 'clam-mb_1xb8-40e_musk1.py', '--folds',
                   cohort / 'folds', '--seeds', 0, 1, '--out', out,
                   *options(cohort))
    lines = output.splitlines()
    assert [line.split('|')[1].strip() for line in lines[2:]] == [
        MEAN.stem, 'clam-mb_1xb8-40e_musk1']
    rows = list(csv.DictReader(out.open()))
    assert [(row['config'], row['seed'], row['fold']) for row in rows] == [
        (config, seed, fold) for config in (MEAN.stem,
                                            'clam-mb_1xb8-40e_musk1')
        for seed in '01' for fold in '012']
    for line in lines[2:]:
        name, right, accuracy, auc = (
            cell.strip() for cell in line.split('|')[1:5])
        mine = [row for row in rows if row['config'] == name]
        # Two seeds of 18 molecules.
        correct = sum(6 * float(row['accuracy']) for row in mine)
        assert right == f'{round(correct)} / 36'
        for cell, key in ((accuracy, 'accuracy'), (auc, 'auc')):
            values = [float(row[key]) for row in mine]
            assert cell == (f'{np.mean(values):.3f} ± '
                            f'{np.std(values, ddof=1):.3f}')
        assert float(accuracy[:5]) > .8
    # What is done is not done again; elsewhere all but the time is the same.
    for work in ('work', 'other'):
        again = compare(MEAN, '--folds', cohort / 'folds', '--seeds', 0, 1,
                        *options(cohort), work=work).splitlines()[2]
        assert again.rsplit('|', 2)[0] == lines[2].rsplit('|', 2)[0]
        assert again == lines[2] or work == 'other'


def test_draws_folds_and_trains_on_validation_patients(cohort, tmp_path,
                                                       compare):
    tables = []
    for more in ((), ('--train-on-val', )):
        compare(MEAN, '--folds', tmp_path / 'drawn', '--draw', 3, *more,
                '--out', tmp_path / 'folds.csv', *options(cohort))
        tables.append((tmp_path / 'folds.csv').read_text())
    assert len(list((tmp_path / 'drawn').glob('splits_*.csv'))) == 3
    assert tables[0] != tables[1]


@pytest.mark.parametrize(('config', 'message'), [
    (ROOT / 'configs/mil/abmil_1xb8-coslr-70e_tcga-nsclc.py',
     'has a param_scheduler, which this loop has not'),
    (SMALL / 'nowhere.py', 'nowhere.py'),
    (MEAN, 'has no splits_0.csv')])
def test_what_it_refuses(tmp_path, compare, config, message):
    folds = tmp_path / 'folds'
    folds.mkdir()
    if config != MEAN:
        (folds / 'splits_0.csv').write_text(',train,val,test\n0,a,,b\n')
    assert message in compare(config, '--folds', folds, status=1)


@pytest.mark.parametrize(('option', 'message'), [
    ('train_dataloader.dataset.modalities=[slides,genes]',
     "has the modalities ['slides', 'genes']"),
    ('train_dataloader.dataset.pipeline.0.type=mmmedmask.RandomSubsample',
     "has the transforms ['mmmedmask.RandomSubsample']")])
def test_configs_that_a_plain_loop_would_change(cohort, compare, option,
                                                message):
    assert message in compare(MEAN, '--folds', cohort / 'folds',
                              '--cfg-options', option, status=1)
