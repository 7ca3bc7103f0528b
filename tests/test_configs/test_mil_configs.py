"""Configs of the bag classifiers: alike but for the model, and they run.

The rows of Table 1 of GiMP's paper, for slides and for slides with genes.
"""

import pytest
from shipped_configs import CONFIGS, hooks_of, read, train

from mmmedmask.shrinking.shrink import shrink_config

FOLDER = CONFIGS / 'mil'
SCHEDULE = '1xb8-coslr-70e_tcga-nsclc'
SLIDES = {'mean-pool': 'MeanPool', 'max-pool': 'MaxPool', 'abmil': 'ABMIL',
          'dsmil': 'DSMIL', 'clam-sb': 'CLAM_SB', 'clam-mb': 'CLAM_MB',
          'transmil': 'TransMIL'}
BOTH = {'porpoise': 'ABMIL', 'pathomic-fusion': 'ABMIL', 'mcat': 'MCAT'}
ROWS = SLIDES | BOTH


def test_every_row_has_a_config():
    rows = {path.stem for path in FOLDER.glob('*.py')}
    assert rows >= {f'{name}_{SCHEDULE}' for name in ROWS}
    for data in ('musk1', 'lc25000-bags'):
        small = {path.name.split('_')[0]
                 for path in FOLDER.glob(f'small/*_{data}.py')}
        assert small == set(SLIDES)


@pytest.mark.parametrize('name', SLIDES)
def test_features_are_scaled_where_they_vary_little(name):
    """What is trained on tiles differs from musk1 in data and scale."""
    tiles, molecules = (read(f'{name}_1xb8-40e_{data}')
                        for data in ('lc25000-bags', 'musk1'))
    assert tiles.model.aggregator.norm_features is True
    assert 'norm_features' not in molecules.model.aggregator
    for part in ('optim_wrapper', 'param_scheduler', 'train_cfg'):
        assert tiles[part] == molecules[part]
    assert tiles.train_dataloader.batch_size == \
        molecules.train_dataloader.batch_size


@pytest.mark.parametrize('name', ROWS)
def test_rows_differ_in_the_model_alone(name):
    cfg = read(f'{name}_{SCHEDULE}')
    assert cfg.model.type == 'mmmedmask.SlideOmicClassifier'
    assert cfg.model.aggregator.type == f'mmmedmask.{ROWS[name]}'
    assert cfg.model.aggregator.in_dims == 1024
    assert cfg.model.head.num_classes == 2
    genes = name in BOTH
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.split == split
        assert ('genes' in dataset.modalities) == genes
        assert 'slides' in dataset.modalities
        assert (dataset.expression is not None) == genes
    main = read(f'abmil_{SCHEDULE}')
    hooks = hooks_of(cfg)
    assert (hooks.pop('GeneStatsHook', None) is not None) == genes
    assert hooks == hooks_of(main)
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg',
                'val_evaluator', 'auto_scale_lr'):
        assert cfg[key] == main[key]


def test_paper_settings():
    """What the papers say where it is not a default."""
    clam = read(f'clam-sb_{SCHEDULE}').model
    assert clam.aggregator.instance_weight == .3
    assert clam.head.loss_weight == .7
    assert clam.aggregator.num_instances == 8
    assert clam.aggregator.instance_loss == 'svm'
    branches = read(f'clam-mb_{SCHEDULE}').model
    assert branches.head.type == 'mmmedmask.ClasswiseSlideOmicHead'
    assert branches.aggregator.instance_weight == .3
    streams = read(f'dsmil_{SCHEDULE}').model
    assert streams.aggregator.instance_weight == streams.head.loss_weight
    gates = {name: read(f'{name}_{SCHEDULE}').model.fusion
             for name in ('porpoise', 'pathomic-fusion')}
    assert gates['porpoise'].gate == 'linear'
    assert gates['pathomic-fusion'].gate == 'bilinear'
    assert gates['pathomic-fusion'].skip
    assert read(f'mcat_{SCHEDULE}').model.aggregator.gene_sets == 6


def test_ablations_change_what_their_name_says():
    model = read(f'abmil-snn-concat_{SCHEDULE}').model
    assert model.fusion == dict(type='mmmedmask.ConcatFusion')
    model = read(f'porpoise-modality-dropout_{SCHEDULE}').model
    assert model.fusion.modality_dropout == .2
    model = read(f'clam-sb-ce_{SCHEDULE}').model
    assert model.aggregator.instance_loss == 'ce'
    model = read(f'transmil_literal_{SCHEDULE}').model
    assert model.aggregator.class_token_in_conv
    for name in ('abmil', 'transmil'):
        cfg = read(f'{name}_subsample_{SCHEDULE}')
        draw = cfg.train_dataloader.dataset.pipeline[1]
        assert (draw.type, draw.max_patches) == (
            'mmmedmask.RandomSubsample', 2000)
        for split in ('val', 'test'):
            assert 'mmmedmask.RandomSubsample' not in [
                step.type
                for step in cfg[f'{split}_dataloader'].dataset.pipeline]


@pytest.mark.parametrize('name', ROWS)
def test_trains_validates_and_tests(name, tmp_path, drawn_data):
    cfg = shrink_config(read(f'{name}_{SCHEDULE}'), tmp_path, drawn_data)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.num_bootstrap = 0
    runner, _, _ = train(cfg)
    assert 0 <= runner.message_hub.get_scalar(
        'val/slide/accuracy').current() <= 1
    assert 0 <= runner.test()['slide/accuracy'] <= 1
    assert list((tmp_path / 'run').glob('best_slide_auc_*.pth'))
    table = next(tmp_path.rglob('patients.csv')).read_text()
    uses = 'slides+genes' if name in BOTH else 'slides'
    assert f',{uses}' in table
