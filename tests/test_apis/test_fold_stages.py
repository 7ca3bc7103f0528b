"""Whose checkpoint a stage starts from, and what makes a stage another."""

import os
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config
from tiny_folds import skip_training, write_stages

from mmmedmask.apis import CrossValidation, find_folds
from mmmedmask.apis.fold_results import draw_cohort_folds
from mmmedmask.apis.fold_stages import (
    content_digest,
    find_datasets,
    plan_sources,
    set_sources,
    stage_settings,
)
from mmmedmask.apis.runs import load_config

CONFIGS = Path(__file__).parents[2] / 'configs/gimp'
GROUPMSA = CONFIGS / 'groupmsa_1xb16-coslr-70e_tcga-nsclc.py'
PRETRAIN = CONFIGS / (
    'gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py')
FINETUNE = CONFIGS / (
    'gimp_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc.py')
ROW = CONFIGS / 'ablations'
PARTS = ('data_preprocessor', 'aggregator', 'gene_encoder')


def plan(*paths, pretrained=(), **changes):
    """By part of the last stage, the number of the stage it is from."""
    configs = [Config.fromfile(path) for path in paths]
    configs[-1].merge_from_dict(changes)
    plans = plan_sources(configs, pretrained)
    return {where[1] if where[0] == 'model' else where[0]: number
            for where, number in plans[-1].items()}


@pytest.mark.parametrize(('stages', 'genes', 'slides'), [
    ((GROUPMSA, PRETRAIN, FINETUNE), 1, 1),
    # Table 2, rows 3 and 4: two checkpoints.
    ((GROUPMSA,
      ROW / 'gimp_mpm-only_nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py',
      ROW / ('gimp_mpm-only_groupmsa-nystrom_1xb8-coslr-70e-finetune_'
             'tcga-nsclc.py')), 0, 1),
    ((GROUPMSA,
      ROW / ('gimp_triplets-only_nystrom_1xb16-coslr-100e-pretrain_'
             'tcga-nsclc.py'),
      ROW / ('gimp_triplets-only_groupmsa-nystrom_1xb8-coslr-70e-finetune_'
             'tcga-nsclc.py')), 0, 1),
    # A pre-training of another name comes right before.
    ((GROUPMSA, ROW / (
        'gimp_infonce_groupmsa-nystrom_1xb16-coslr-100e-pretrain_'
        'tcga-nsclc.py'), FINETUNE), 1, 1),
])
def test_every_row_of_table_2_finds_its_checkpoints(stages, genes, slides):
    assert plan(*stages) == dict(zip(
        PARTS, (genes, slides, genes), strict=True))


def test_load_from_counts_as_well():
    assert plan(GROUPMSA, PRETRAIN, FINETUNE,
                load_from='work_dirs/groupmsa_1xb16-coslr-70e_tcga-nsclc/'
                'epoch_1.pth')['load_from'] == 0
    assert plan(GROUPMSA, GROUPMSA, load_from='') == dict(load_from=0)


def test_first_stage_must_not_start_from_the_cohort(tmp_path):
    """Else every fold starts from what has learned from its test patients."""
    with pytest.raises(ValueError, match=(
            r"finetune_tcga-nsclc.py starts from 'work_dirs/gimp_.*pretrain"
            r"_tcga-nsclc/epoch_100.pth' \(model.*which no earlier stage "
            r"makes: .* test split .* --pretrained work_dirs/gimp_")):
        plan(FINETUNE)
    with pytest.raises(ValueError, match=r"'w/a.pth' \(load_from\), which"):
        plan(GROUPMSA, load_from='w/a.pth')
    assert plan(GROUPMSA, load_from='w/a.pth', pretrained=['w/a.pth']) == {}
    with pytest.raises(ValueError, match=r"pretrained=\['b.pth'\] is what no "
                       r"stage starts from; .*\['w/a.pth'\]"):
        plan(GROUPMSA, load_from='w/a.pth', pretrained=['b.pth', 'w/a.pth'])


def test_later_stages_take_nothing_that_is_not_clear():
    unknown = {'model.aggregator.init_cfg.checkpoint': 'elsewhere/a.pth'}
    # One is of the stage before by its name, so the other is not.
    with pytest.raises(ValueError, match="starts from 'elsewhere/a.pth'"):
        plan(GROUPMSA, PRETRAIN, FINETUNE, **unknown)
    assert plan(GROUPMSA, PRETRAIN, FINETUNE, **unknown,
                pretrained=['elsewhere/a.pth']) == dict(
                    data_preprocessor=1, gene_encoder=1)
    with pytest.raises(ValueError, match="'elsewhere/a.pth' and 'work_dirs"):
        plan(GROUPMSA, GROUPMSA, FINETUNE, **unknown)


def test_stage_that_nothing_starts_from():
    with pytest.raises(ValueError, match='no later stage starts from what '
                       '.*tcga-nsclc.py makes: .* takes no checkpoint of it'):
        plan(GROUPMSA, GROUPMSA)


# ------------------------------------------------------------------ on folds


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """Two stages, a cohort and its folds in one folder."""
    folder = tmp_path_factory.mktemp('drawn')
    configs = write_stages(folder)
    draw_cohort_folds(configs[0], None, folder / 'splits', 3)
    return folder


@pytest.fixture
def trained(monkeypatch):
    """Configs of the stages that would have been trained."""
    return skip_training(monkeypatch)


def sources(config):
    """Checkpoints that the parts of a model start from."""
    return {part: config.model[part].init_cfg.checkpoint for part in PARTS
            if (config.model.get(part) or {}).get('init_cfg')}


def test_two_checkpoints_are_those_of_the_fold(drawn, tmp_path, trained):
    folds = find_folds(drawn / 'splits')
    stages = (
        GROUPMSA,
        ROW / 'gimp_mpm-only_nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py',
        ROW / ('gimp_mpm-only_groupmsa-nystrom_1xb8-coslr-70e-finetune_'
               'tcga-nsclc.py'))
    validation = CrossValidation(stages, folds, tmp_path)
    validation.run_fold(None, 2)
    fold = tmp_path / 'fold_2'
    first, second, third = map(sources, trained)
    assert not first
    assert not second
    assert third == dict(zip(
        PARTS, (str(fold / stages[place].stem / 'last.pth')
                for place in (0, 1, 0)), strict=True))
    # Only what starts from the new first stage has to go.
    (fold / GROUPMSA.stem / 'stage.json').unlink()
    with pytest.raises(ValueError, match=f'{stages[2].stem} was made from an '
                       f'earlier run of .*{GROUPMSA.stem}, which .*: delete'):
        validation.run_fold(None, 2)


def test_later_stage_alone_is_refused_before_it_trains(
        drawn, tmp_path, trained):
    folds = find_folds(drawn / 'splits')
    with pytest.raises(ValueError, match="starts from 'missing.pth'"):
        CrossValidation([drawn / 'both.py'], folds, tmp_path).run_fold(None, 0)
    assert trained == []
    assert not (tmp_path / 'fold_0').exists()
    CrossValidation([drawn / 'both.py'], folds, tmp_path,
                    pretrained=['missing.pth']).run_fold(None, 0)
    assert [sources(config) for config in trained] == [
        dict(gene_encoder='missing.pth')]


def test_what_makes_a_stage_another(drawn, tmp_path):
    """A corrected table does, the project's place does not."""

    def settings(root):
        config = load_config(drawn / 'both.py')
        for _, dataset in find_datasets(config):
            dataset.data_root = str(root / 'data')
            dataset.split_file = str(root / 'splits/splits_0.csv')
        set_sources(config, {
            ('model', 'gene_encoder', 'init_cfg', 'checkpoint'): 'genes'})
        return stage_settings(
            config, root / 'splits/splits_0.csv', {'genes': 'abc'}, 'best')

    moved = tmp_path / 'moved'
    shutil.copytree(drawn, moved)
    first = settings(drawn)
    assert settings(moved) == first
    assert str(drawn) not in str(first)
    for name in ('data/cohort.csv', 'data/expression.tsv',
                 'splits/splits_0.csv'):
        content = (moved / name).read_bytes()
        (moved / name).write_bytes(content + b'\n')
        assert settings(moved)['digest'] != first['digest'], name
        (moved / name).write_bytes(content)
    assert settings(moved) == first
    slide = next((moved / 'data/features').rglob('*.h5'))
    (slide.parent / '.a.h5.part').touch()
    (slide.parent / 'notes.csv').touch()
    assert settings(moved) == first
    slide.write_bytes(slide.read_bytes() + b'0')
    assert settings(moved)['digest'] != first['digest']


def test_checkpoint_of_other_data_counts_by_its_content(drawn, tmp_path):
    file = tmp_path / 'other.pth'
    config = Config.fromfile(drawn / 'genes.py')
    config.load_from = str(file)
    split = drawn / 'splits/splits_0.csv'
    digests = []
    for content in (b'a', b'b', b'a'):
        file.write_bytes(content)
        # Files may be written within the clock's grain.
        os.utime(file, ns=(len(digests) + 1, len(digests) + 1))
        digests.append(stage_settings(config, split, {}, 'last')['digest'])
    assert digests[0] == digests[2] != digests[1]
    assert content_digest(tmp_path / 'missing') is None
