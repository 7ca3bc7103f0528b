"""Configs on folds: who trains on whom, and what starts from what."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import call
from forked_steps import fork_step
from mmengine.config import Config
from tiny_folds import write_stages

from mmmedmask.evaluation.patient_tables import read_patients
from mmmedmask.experiments import execute
from mmmedmask.experiments import execute as execute_module
from mmmedmask.experiments.chain import resolve_chain
from mmmedmask.experiments.cross_validation import (
    ad_hoc_recipe,
    fold_rows,
    write_folds_table,
)
from mmmedmask.experiments.fingerprints import DataFingerprints
from mmmedmask.experiments.fold_axis import (
    draw_cohort_folds,
    find_folds,
    fold_options,
)
from mmmedmask.experiments.manifest import (
    MANIFEST_FILE,
    new_manifest,
    read_manifest,
)
from mmmedmask.experiments.plan import Axis, plan_runs, settings_digest
from mmmedmask.util.atomic_files import write_json

TOOLS = Path(__file__).parents[2] / 'tools'
CONFIGS = Path(__file__).parents[2] / 'configs/gimp'
GROUPMSA = CONFIGS / 'groupmsa_1xb16-coslr-70e_tcga-nsclc.py'
PRETRAIN = CONFIGS / (
    'gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py')
FINETUNE = CONFIGS / (
    'gimp_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc.py')
ROW = CONFIGS / 'ablations'
MPM_ONLY, TRIPLETS_ONLY = ([
    GROUPMSA,
    ROW / f'gimp_{name}_nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py',
    ROW / (f'gimp_{name}_groupmsa-nystrom_1xb8-coslr-70e-finetune_'
           'tcga-nsclc.py')] for name in ('mpm-only', 'triplets-only'))
PARTS = ('data_preprocessor', 'aggregator', 'gene_encoder')


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """Configs of two stages, their cohort and its folds, in one folder."""
    folder = tmp_path_factory.mktemp('stages')
    draw_cohort_folds(write_stages(folder)[0], None, folder / 'splits', 3)
    return folder


@pytest.fixture
def stages(drawn):
    return [drawn / 'genes.py', drawn / 'both.py']


def make_plan(folder, configs, folds, seeds=(None, ), **options):
    recipe = ad_hoc_recipe(configs, **options)
    return plan_runs([(recipe, recipe.rows)], 'paper', folder, seeds=seeds,
                     folds={recipe.name: folds})


def split_of(path):
    with open(path, newline='') as stream:
        rows = list(csv.DictReader(stream))
    return {name: {row[name] for row in rows if row[name]}
            for name in ('train', 'val', 'test')}


def test_names_of_folds(tmp_path):
    for name in ('splits_0', 'splits_01', 'splits_\u00b2', 'splits_all'):
        (tmp_path / f'{name}.csv').touch()
    assert list(find_folds(tmp_path)) == [0, 1]
    (tmp_path / 'splits_00.csv').touch()
    with pytest.raises(ValueError, match='has splits_0.csv and splits_00.csv'):
        find_folds(tmp_path)


@pytest.mark.slow
def test_stages_of_a_fold(drawn, stages, tmp_path, monkeypatch):
    folds = find_folds(drawn / 'splits')
    plan = make_plan(tmp_path / 'runs', stages, {1: folds[1]})
    genes, both = plan.runs
    # Ended before the third epoch of the first stage.
    monkeypatch.setenv('TINY_STOP_BEFORE', '2')
    assert execute.execute_here(plan, TOOLS, fork_step) == 1
    monkeypatch.delenv('TINY_STOP_BEFORE')
    assert execute.execute_here(plan, TOOLS, fork_step) == 0
    assert execute.find_failures(plan) == {}
    epochs = [(run.folder / 'epochs.txt').read_text().split()
              for run in plan.runs]
    assert epochs == [['0', '1', '2'], ['0', '1', '2']]
    names = split_of(folds[1])
    for run in plan.runs:
        cases = set((run.folder / 'cases.txt').read_text().split())
        assert cases == names['train'] | names['val']
        assert not cases & names['test']
    file, = (both.folder / 'test_best').glob('*/patients.csv')
    table = read_patients(file)
    assert set(table.case_ids) == names['test']
    assert set(table.modalities) == {'slides+genes'}
    results = read_manifest(both.folder)['results']['best']
    assert np.mean(table.scores.argmax(axis=1) == table.labels
                   ) == results['slide/accuracy']
    # The first stage hands on its last, as its config does by itself, and
    # the second one has its frozen gene encoder and scale.
    source, = both.sources.values()
    assert source.file().endswith('epoch_3.pth')
    first, second = (torch.load(file, weights_only=False)['state_dict']
                     for file in (source.file(), both.checkpoint('best')))
    compared = [name for name in first if name.startswith('gene_encoder.')]
    assert len(compared) > 2
    for name in compared:
        assert torch.equal(first[name], second[name]), name
    # Other settings are another folder; another split is refused.
    other = make_plan(tmp_path / 'runs', stages, {1: folds[1]}, options={
        '1:optim_wrapper.optimizer.lr': .5})
    assert not {run.folder for run in other.runs} & {
        run.folder for run in plan.runs}
    problem, _ = execute.find_problems(
        make_plan(tmp_path / 'runs', stages, {1: folds[2]}))
    assert 'other data: ' in problem
    assert 'splits_2.csv' in problem


@pytest.mark.slow
def test_command(drawn, tmp_path, monkeypatch):
    """Draw, run each fold by itself, then make the table of all."""
    monkeypatch.setattr(
        execute_module, 'execute_plan', lambda plan, tools, *rest:
        execute.execute_here(plan, tools, fork_step))
    config, folds, out = drawn / 'genes.py', tmp_path / 'splits', \
        tmp_path / 'out'
    arguments = (config, '--folds', folds, '--work-dir', out, '--cfg-options',
                 'train_cfg.max_epochs=1', '1:optim_wrapper.optimizer.lr=0.02')

    def command(*more, status=0):
        return call('cross_validate.py', *arguments, *more, status=status)

    command('--draw', 3, '--select', 0, 2)
    assert not list(out.glob('*/*_fold1'))
    lines = command().splitlines()
    table = [line for line in lines if line.startswith('|')]
    assert [line.split('|')[1].strip() for line in table[2:]] == [
        'fold 0', 'fold 1', 'fold 2', 'mean ± sd', 'pooled']
    assert '| pooled | 24 |' in table[-1]
    assert (out / 'results.md').read_text() == '\n'.join(table) + '\n'
    assert len(read_patients(out / 'patients.csv').case_ids) == 24
    with open(out / 'results.csv', newline='') as stream:
        rows = {row['run']: row for row in csv.DictReader(stream)}
    accuracies = [float(rows[f'fold {fold}']['accuracy']) for fold in range(3)]
    mean, spread = np.mean(accuracies), np.std(accuracies, ddof=1)
    # All folds have eight patients: the pooled accuracy is the mean, too.
    for name, value in (('mean', mean), ('sd', spread), ('pooled', mean)):
        assert float(rows[name]['accuracy']) == pytest.approx(value)
    assert (float(rows['pooled low']['auc']) < float(rows['pooled']['auc'])
            < float(rows['pooled high']['auc']))
    # Such a folder is what is compared with another one.
    assert '24 patients' in call('analysis_tools/compare_predictions.py',
                                 out, out)
    # The folds that are there stay.
    assert 'has other splits already' in command(
        '--draw', 3, '--draw-seed', 5, status=1)
    assert 'the folds [7] are not among' in command('--select', 7, status=1)
    assert 'allowed: --pretrained missing.pth' in call(
        'cross_validate.py', drawn / 'both.py', *arguments[1:-3], status=1)


def test_all_options_of_reproduce(stages, drawn, tmp_path):
    """The data may be elsewhere, and a run may have several processes."""
    config = tmp_path / 'genes.py'
    config.write_text(
        stages[0].read_text().replace(str(drawn / 'data'), 'data/cohort'))
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere/cohort').symlink_to(drawn / 'data')
    arguments = (config, '--folds', tmp_path / 'splits', '--work-dir',
                 tmp_path / 'out', '--data-root', tmp_path / 'elsewhere')
    lines = call(
        'cross_validate.py', *arguments, '--draw', 3, '--select', 1, '--gpus',
        2, '--seeds', 4, '--dry-run').splitlines()
    train, test = (line for line in lines if not line.startswith('#'))
    assert train.startswith('bash tools/dist_train.sh ')
    assert 'test.py' in test
    for part in (f'.data_root={tmp_path / "elsewhere/cohort"} ',
                 f'={tmp_path / "splits/splits_1.csv"} ', 'seed=4'):
        assert part in train
    assert '# [1/1] genes, seed 4, fold 1' in lines
    assert not (tmp_path / 'out').exists()
    assert '--gpus must be at least 1' in call(
        'cross_validate.py', *arguments, '--gpus', 0, status=2)
    assert '--draw 2: 2 folds are too few: there must be a part each' in call(
        'cross_validate.py', *arguments, '--draw', 2, status=1)
    assert 'say how --draw K draws folds' in call(
        'cross_validate.py', *arguments, '--by-site', status=2)


@pytest.mark.parametrize('option', ['--dry-run', '-np'])
def test_a_dry_run_of_snakemake_has_no_failures(place, stages, drawn, option):
    """Nor does it replace tables of what there is."""
    pytest.importorskip('snakemake')
    out = place.folder / 'out'
    for command in (
            ('cross_validate.py', stages[0], '--folds', drawn / 'splits',
             '--work-dir', out), ('reproduce.py', place.recipe_file,
                                  '--data-root', place.data, '--work-dir',
                                  out)):
        printed = call(*command, '--', option)
        assert 'This was a dry-run' in printed
        assert 'not done' not in printed
        assert 'failed' not in printed
        assert 'unrecognized arguments' in call(
            *command, '--', '--dry-runs', status=2)
    assert not list(out.rglob('*.md'))


def test_no_table_of_an_earlier_cross_validation_stays(drawn, stages,
                                                       tmp_path):
    recipe = ad_hoc_recipe(stages[:1])
    plan = plan_runs([(recipe, recipe.rows)], 'paper', tmp_path,
                     folds={recipe.name: find_folds(drawn / 'splits')})
    for folder in (tmp_path, tmp_path / 'seed_1'):
        folder.mkdir(exist_ok=True)
        (folder / 'patients.csv').write_text('of other runs')
    write_folds_table(plan, recipe)
    assert not list(tmp_path.rglob('patients.csv'))


@pytest.mark.parametrize('fault', [
    dict(data_changed=['cohort.csv']), dict(digest='f' * 64), dict(format=99),
    dict(data={})])
def test_folds_show_what_the_table_above_shows(drawn, stages, tmp_path, fault):
    recipe = ad_hoc_recipe(stages[:1])
    row, = recipe.rows
    stage = recipe.columns[0].stage
    plan = make_plan(tmp_path, stages[:1], find_folds(drawn / 'splits'))
    for run in plan.runs:
        write_json(run.folder / MANIFEST_FILE, new_manifest(
            run, 'data', DataFingerprints('data').of_run(run)
        ) | dict(results=dict(best={'slide/auc': .5})))
    assert len(fold_rows(plan, recipe, row, stage)) > len(plan.runs)
    file = plan.runs[1].folder / MANIFEST_FILE
    write_json(file, json.loads(file.read_text()) | fault)
    assert fold_rows(plan, recipe, row, stage) == []


def test_seeds_and_folds_have_their_runs(drawn, stages, tmp_path):
    folds = find_folds(drawn / 'splits')
    plan = make_plan(tmp_path, stages[:1], folds, seeds=(3, 4))
    assert plan.axes['genes_folds'][:2] == (Axis(3, 0), Axis(3, 1))
    run = plan.runs[3]
    assert (run.seed, run.fold) == (4, 0)
    assert run.folder.name == 'seed4_fold0'
    assert 'randomness.seed=4' in run.settings
    for loader in ('train', 'val', 'test'):
        assert f'{loader}_dataloader.dataset.split_file={folds[0]}' in \
            run.settings
    own, = make_plan(tmp_path, stages[:1], {0: folds[0]}).runs
    assert own.folder.name == 'own_seed_fold0'
    assert not any('seed' in setting for setting in own.settings)


def test_same_config_twice_and_options_of_a_stage(stages):
    recipe = ad_hoc_recipe([stages[0]] * 2, {
        'train_cfg.max_epochs': 9, '2:train_cfg.max_epochs': 7})
    chosen = recipe.rows[0].stages
    assert [(name, stage.checkpoint, dict(stage.options))
            for name, stage in chosen.items()] == [
        ('genes', 'last', {'train_cfg.max_epochs': 9}),
        ('genes_2', 'best', {'train_cfg.max_epochs': 7})]
    # GroupMSA's best is what the second stage names.
    recipe = ad_hoc_recipe([GROUPMSA, PRETRAIN, FINETUNE])
    assert [one.checkpoint for one in recipe.rows[0].stages.values()] == [
        'best', 'last', 'best']
    with pytest.raises(ValueError, match="for stage '3', stages are 1 to 1"):
        ad_hoc_recipe(stages[:1], {'3:train_cfg.max_epochs': 1})


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
     "custom_hooks.0.data .* must have split='train' or 'val', got 'test'")])
def test_data_sets_that_would_leak(stages, values, message):
    with pytest.raises(ValueError, match=message):
        fold_options(changed(stages[0], **values), '/splits_0.csv')


def test_configs_that_do_not_fit(stages, tiny_classification, tmp_path):
    with pytest.raises(ValueError, match='has no SlideOmicDataset'):
        fold_options(Config.fromfile(tiny_classification), '/splits_0.csv')
    config = tmp_path / 'untested.py'
    config.write_text(f"_base_ = {str(stages[0])!r}\ntest_evaluator = None\n")
    with pytest.raises(ValueError, match='nothing to test: .*test_evaluator'):
        make_plan(tmp_path, [config], {0: tmp_path / 'splits_0.csv'})
    with pytest.raises(FileNotFoundError, match='has no splits_0.csv'):
        find_folds(tmp_path)


def sources_of(*paths, pretrained=(), **changes):
    """By part of the last stage, the number of the stage it is from."""
    last = f'{len(paths)}:'
    recipe = ad_hoc_recipe(
        paths, {last + key: value for key, value in changes.items()},
        pretrained=pretrained)
    chain = resolve_chain(recipe, recipe.rows[0], 'paper')
    names = [stage.name for stage in chain]
    return {where[1] if where[0] == 'model' else where[0]: names.index(name)
            for where, name in chain[-1].sources.items()}


@pytest.mark.parametrize(('paths', 'genes', 'slides'), [
    ((GROUPMSA, PRETRAIN, FINETUNE), 1, 1),
    # Table 2, rows 3 and 4: two checkpoints.
    (MPM_ONLY, 0, 1), (TRIPLETS_ONLY, 0, 1),
    # A pre-training of another name comes right before.
    ((GROUPMSA, ROW / (
        'gimp_infonce_groupmsa-nystrom_1xb16-coslr-100e-pretrain_'
        'tcga-nsclc.py'), FINETUNE), 1, 1),
])
def test_every_row_of_table_2_finds_its_checkpoints(paths, genes, slides):
    assert sources_of(*paths) == dict(zip(
        PARTS, (genes, slides, genes), strict=True))


def test_load_from_counts_as_well():
    assert sources_of(
        GROUPMSA, PRETRAIN, FINETUNE, load_from='work_dirs/'
        'groupmsa_1xb16-coslr-70e_tcga-nsclc/epoch_1.pth')['load_from'] == 0
    assert sources_of(GROUPMSA, GROUPMSA, load_from='') == dict(load_from=0)


def test_first_stage_must_not_start_from_the_cohort():
    """Else every fold starts from what has learned from its test patients."""
    with pytest.raises(ValueError, match=(
            r"finetune_tcga-nsclc.py starts from 'work_dirs/gimp_.*pretrain"
            r"_tcga-nsclc/epoch_100.pth' \(model.*which no earlier stage "
            r"makes: .* test split .* --pretrained work_dirs/gimp_")):
        sources_of(FINETUNE)
    for file in ('w/a.pth', 'https://example.org/a.pth'):
        with pytest.raises(ValueError, match=rf"'{file}' \(load_from\), whic"):
            sources_of(GROUPMSA, load_from=file)
        assert sources_of(GROUPMSA, load_from=file, pretrained=[file]) == {}
    with pytest.raises(ValueError, match=r"pretrained=\['b.pth'\] is what no "
                       r"stage starts from; .*\['w/a.pth'\]"):
        sources_of(GROUPMSA, load_from='w/a.pth',
                   pretrained=['b.pth', 'w/a.pth'])


def test_later_stages_take_nothing_that_is_not_clear():
    unknown = {'model.aggregator.init_cfg.checkpoint': 'elsewhere/a.pth'}
    # One is of the stage before by its name, so the other is not.
    with pytest.raises(ValueError, match="starts from 'elsewhere/a.pth'"):
        sources_of(GROUPMSA, PRETRAIN, FINETUNE, **unknown)
    assert sources_of(GROUPMSA, PRETRAIN, FINETUNE, **unknown,
                      pretrained=['elsewhere/a.pth']) == dict(
                          data_preprocessor=1, gene_encoder=1)
    with pytest.raises(ValueError, match="'elsewhere/a.pth' and 'work_dirs"):
        sources_of(GROUPMSA, GROUPMSA, FINETUNE, **unknown)


def test_stage_that_nothing_starts_from():
    with pytest.raises(ValueError, match='no later stage starts from what '
                       '.*tcga-nsclc.py makes: .* takes no checkpoint of it'):
        sources_of(GROUPMSA, GROUPMSA)


def test_two_checkpoints_are_those_of_the_fold(drawn, tmp_path):
    plan = make_plan(tmp_path, MPM_ONLY, find_folds(drawn / 'splits', [1, 2]))
    groupmsa, pretrain, finetune = plan.runs[3:]
    assert {where[1]: source.run for where, source in
            finetune.sources.items()} == dict(
                zip(PARTS, (groupmsa, pretrain, groupmsa), strict=True))
    assert {run.fold for run in plan.runs[3:]} == {2}


def test_what_makes_a_stage_another(drawn, tmp_path):
    """A corrected table does, the project's place does not."""

    def digest(root):
        config = Config.fromfile(drawn / 'both.py')
        for loader in ('train', 'val', 'test'):
            config[f'{loader}_dataloader'].dataset.update(
                data_root=str(root / 'data'),
                split_file=str(root / 'splits/splits_0.csv'))
        return settings_digest(config, {
            ('model', 'gene_encoder', 'init_cfg', 'checkpoint'): 'genes'},
            'paper', 1, Axis(None, 0))

    moved = tmp_path / 'moved'
    shutil.copytree(drawn, moved)
    first = digest(drawn)
    slide = next((moved / 'data/features').rglob('*.h5'))
    for file in (moved / 'data/cohort.csv', moved / 'data/expression.tsv',
                 slide):
        assert digest(moved) == first
        content = file.read_bytes()
        file.write_bytes(content + b'\n')
        assert digest(moved) != first, file
        file.write_bytes(content)
    (slide.parent / '.a.h5.part').touch()
    (slide.parent / 'notes.csv').touch()
    assert digest(moved) == first


def test_files_below_the_data_root_count_by_their_names(drawn, tmp_path,
                                                        monkeypatch):
    """Each file by itself, with and without the data set's own root."""
    monkeypatch.chdir(tmp_path)
    outside = tmp_path / 'outside.csv'

    def digest(root, ann_file):
        config = Config.fromfile(drawn / 'genes.py')
        for loader in ('train', 'val', 'test'):
            config[f'{loader}_dataloader'].dataset.update(
                data_root=root, ann_file=ann_file)
        return settings_digest(config, {}, 'paper', 1, Axis(None, 0))

    def digests():
        return [digest('', 'data/x/cohort.csv'),
                digest('data/x', str(outside))]

    outside.write_text('case_id\n1\n')
    before = digests()
    Path('data/x').mkdir(parents=True)
    slide = tmp_path / 'a.h5'
    slide.write_text('a')
    Path('data/x/cohort.csv').write_text(
        f'case_id,slide_id,label,features_path\n1,a,x,{slide}\n')
    assert digests() == before
    outside.write_text('case_id\n12\n')
    assert [new == old for new, old in zip(
        digests(), before, strict=True)] == [True, False]


def test_files_that_a_csv_and_the_model_name_count(drawn, tmp_path):
    slide, sets = tmp_path / 'a.h5', tmp_path / 'sets.gmt'
    cohort = tmp_path / 'cohort.csv'
    cohort.write_text(f'case_id,slide_id,label,features_path\n1,a,x,{slide}\n')
    config = tmp_path / 'genes.py'
    config.write_text(f"""_base_ = {str(drawn / 'genes.py')!r}
train_dataloader = dict(dataset=dict(ann_file={str(cohort)!r}))
model = dict(gene_encoder=dict(gene_sets={str(sets)!r}))""")

    def state():
        run, = make_plan(tmp_path, [config], {0: drawn / 'splits_0.csv'}).runs
        return run.digest, DataFingerprints('data').of_run(run)

    slide.write_text('a')
    sets.write_text('a')
    for file in (slide, sets):
        digest, prints = state()
        file.write_text('longer')
        changed_digest, changed_prints = state()
        assert digest != changed_digest, file
        name, = (name for name in prints
                 if prints[name] != changed_prints[name])
        assert name == ('features_path' if file is slide else str(sets))


def test_checkpoint_of_other_data_counts_by_its_content(drawn, tmp_path):
    file = tmp_path / 'other.pth'
    config = Config.fromfile(drawn / 'genes.py')
    config.load_from = str(file)
    digests = []
    for content in (b'a', b'b', b'a'):
        file.write_bytes(content)
        # Files may be written within the clock's grain.
        os.utime(file, ns=(len(digests) + 1, len(digests) + 1))
        digests.append(settings_digest(config, {}, 'paper', 1, Axis(None, 0)))
    assert digests[0] == digests[2] != digests[1]
