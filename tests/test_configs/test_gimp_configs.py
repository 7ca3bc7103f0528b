"""GiMP's configs say what the paper says, and hand weights on.

Sections 2 and 3.1 of the paper; the three stages with a drawn cohort, where
the class is planted in genes, in slides, or in both (check 25); how the
configs of Table 2 differ from the main ones.
"""

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from shipped_configs import (
    CONFIGS,
    hooks_of,
    load,
    load_checks,
    pretrained,
    read,
    source_of,
    stem,
    train,
)

from mmmedmask.phantoms.slide_omic_cohort import write_slide_omic_cohort
from mmmedmask.shrinking.shrink import shrink_config

FOLDER = CONFIGS / 'gimp'
PAPER = [path for folder in ('.', 'ablations')
         for path in sorted((FOLDER / folder).glob('*.py'))]
PRETRAIN = [path for path in PAPER if '-pretrain_' in path.name]
FINETUNE = [path for path in PAPER if '-finetune_' in path.name]
STAGE0 = 'groupmsa_1xb16-coslr-70e_tcga-nsclc'
MAIN = 'gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc'
MAIN_FINETUNE = 'gimp_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc'
# Methods for images with text, which train the gene encoder.
IMAGE_TEXT = ('biovil', 'mgca', 'refers')
# Fine-tuned without pre-training.
FROM_SCRATCH = ('_scratch_', '_scratch-subsample_', '_literal_')


def test_found_the_configs():
    assert len(PRETRAIN) >= 16
    assert len(FINETUNE) >= 11


def _from_scratch(path):
    return any(name in path.name for name in FROM_SCRATCH)


@pytest.mark.parametrize('path', PRETRAIN, ids=stem)
def test_pretraining(path):
    """Sections 2.3 and 3.1."""
    cfg = read(path)
    assert cfg.default_scope == 'mmpretrain'
    assert cfg.model.type == 'mmmedmask.GiMP'
    trained = path.name.startswith(
        tuple(f'gimp_{name}_' for name in IMAGE_TEXT))
    assert cfg.model.get('freeze_gene_encoder', True) is not trained
    loader = cfg.train_dataloader
    assert loader.batch_size == cfg.auto_scale_lr.base_batch_size == 16
    assert loader.batch_sampler.type == 'mmmedmask.ClassBalancedBatchSampler'
    assert loader.dataset.split == 'train'
    assert cfg.get('val_dataloader') is None
    run, mask = loader.dataset.pipeline[1:3]
    assert mask.ratio == .5
    if '-subsample_' in path.name:
        assert (run.type, run.max_patches) == (
            'mmmedmask.RandomSubsample', 2000)
    else:
        assert run.length == 6000
        assert (run.order == 'hilbert') == ('_hilbert_' in path.name)
    assert cfg.train_cfg.max_epochs == 100
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr) == ('AdamW', 1e-4)
    assert cfg.param_scheduler[-1].type == 'CosineAnnealingLR'
    assert cfg.model.aggregator.num_layers == 2
    hooks = hooks_of(cfg)
    assert {'TransformEpochHook', 'NaNGuardHook'} <= set(hooks)
    head = cfg.model.contrast_head or {}
    triplets = head.get('type') == 'mmmedmask.TripletHead'
    assert not triplets or head.margin == .8
    assert ('TripletMonitorHook' in hooks) == triplets
    assert ('CrossFittedGenesHook' in hooks) == (
        cfg.model.gene_encoder is not None and not trained
        and '_fitted-genes_' not in path.name)
    genes = cfg.model.gene_encoder is not None
    assert ('genes' in loader.dataset.modalities) == genes
    assert {'GeneStatsHook', 'LoadCheckHook'} <= set(hooks) or not genes
    assert ('LoadCheckHook' in hooks) == genes


@pytest.mark.parametrize('path', FINETUNE, ids=stem)
def test_fine_tuning(path):
    """Section 3.1: 70 epochs, validated after each; whole bags."""
    cfg = read(path)
    assert cfg.model.type == 'mmmedmask.SlideOmicClassifier'
    assert cfg.train_cfg.max_epochs == 70
    assert cfg.train_cfg.val_interval == 1
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr) == ('AdamW', 1e-4)
    genes = cfg.model.gene_encoder is not None
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.split == split
        assert ('genes' in dataset.modalities) == genes
        some = ['RandomSubsample'] * (split == 'train' and any(
            name in path.name
            for name in ('_scratch-subsample_', '_subsample-twice_',
                         '_mpm-only-subsample_', 'gimp_subsample_',
                         '_slides-only-subsample_')))
        assert [step.type for step in dataset.pipeline] == [
            f'mmmedmask.{name}' for name in (
                'LoadSlideFeatures', *some, 'LoadExpression',
                'PackSlideOmicInputs')]
    assert cfg.val_dataloader.batch_size == 1
    hooks = hooks_of(cfg)
    assert hooks['SafeCheckpointHook'].save_best == 'slide/auc'
    assert ('GeneStatsHook' in hooks) == genes
    assert ('LoadCheckHook' in hooks) != _from_scratch(path)
    for part in ('aggregator', 'gene_encoder'):
        if cfg.model[part] is not None and 'LoadCheckHook' in hooks:
            assert part in hooks['LoadCheckHook'].modules


def _checkpoints(model):
    """Parts that start from a checkpoint, and the config that leaves it."""
    for name in ('data_preprocessor', 'aggregator', 'gene_encoder'):
        init_cfg = (model.get(name) or {}).get('init_cfg')
        if init_cfg is not None:
            yield name, source_of(init_cfg, f'{name}.')


@pytest.mark.parametrize('path', PRETRAIN + FINETUNE, ids=stem)
def test_checkpoints_are_what_a_shipped_config_leaves(path):
    """Files of runs with the same parts: genes' best, else the last."""
    cfg = read(path)
    found = dict(_checkpoints(cfg.model))
    if _from_scratch(path):
        assert not found
        return
    if cfg.model.gene_encoder is not None:
        assert found['gene_encoder'] == found['data_preprocessor']
    for name, run in found.items():
        source = read(run)
        for key in ('feature_root', 'data_root', 'expression', 'gene_list'):
            theirs = source.train_dataloader.dataset.get(key)
            if theirs is not None:
                assert theirs == cfg.train_dataloader.dataset.get(key)
        if name == 'data_preprocessor':
            continue
        ours, theirs = (dict(one[name]) for one in (cfg.model, source.model))
        unlike = {key for key in {*ours, *theirs}
                  if ours.get(key) != theirs.get(key)}
        # GroupMSA's config names its defaults.
        assert unlike <= {'init_cfg', 'mask_token', 'with_cp',
                          'num_fragments', 'num_groups', 'num_heads'}


PRE = 'gimp_{}_1xb16-coslr-100e-pretrain_tcga-nsclc'
FINE = 'gimp_{}_1xb8-coslr-70e-finetune_tcga-nsclc'
# Config to the settings of its model that are not as in the main one.
DIFFERENCES = {
    PRE.format('mpm-only_nystrom'): {'gene_encoder', 'contrast_head'},
    PRE.format('triplets-only_nystrom'): {'gene_encoder', 'mpm_head',
                                          'mask_token'},
    PRE.format('no-mpm_groupmsa-nystrom'): {'mpm_head', 'mask_token'},
    PRE.format('no-mpm-subsample_groupmsa-nystrom'): {
        'mpm_head', 'mask_token'},
    PRE.format('no-genes_nystrom'): {'gene_encoder'},
    PRE.format('infonce_groupmsa-nystrom'): {'contrast_head'},
    **{PRE.format(f'{name}_groupmsa-nystrom'): {
        'contrast_head', 'freeze_gene_encoder', 'mask_token', 'mpm_head'}
       for name in IMAGE_TEXT},
    PRE.format('fitted-genes_groupmsa-nystrom'): set(),
    PRE.format('batch-hard_groupmsa-nystrom'): {'mining'},
    PRE.format('unit-norm_groupmsa-nystrom'): {'normalize'},
    PRE.format('sum_groupmsa-nystrom'): {'reduction'},
    PRE.format('exact_groupmsa-nystrom'): {'attn'},
    PRE.format('ppeg_groupmsa-nystrom'): {'ppeg'},
    PRE.format('hilbert_groupmsa-nystrom'): set(),
    PRE.format('amp_groupmsa-nystrom'): set(),
    FINE.format('scratch_groupmsa-nystrom'): set(),
    FINE.format('scratch_snn-nystrom'): {'gene_encoder'},
    FINE.format('scratch_nystrom'): {'gene_encoder'},
    FINE.format('scratch-subsample_nystrom'): {'gene_encoder'},
    FINE.format('literal_nystrom'): {
        'gene_encoder', 'class_token_in_conv', 'conv_start', 'embed_relu'},
    FINE.format('slides-only_nystrom'): {'gene_encoder'},
    FINE.format('slides-only-subsample_nystrom'): {'gene_encoder'},
    FINE.format('frozen-genes_groupmsa-nystrom'): {'freeze_gene_encoder'},
    FINE.format('mpm-only_groupmsa-nystrom'): set(),
    FINE.format('triplets-only_groupmsa-nystrom'): set(),
    **{FINE.format(f'{name}_groupmsa-nystrom'): set() for name in (
        'no-mpm', 'no-mpm-subsample', 'scratch-subsample',
        'subsample-twice', 'subsample', 'mpm-only-subsample')},
    **{FINE.format(f'{name}_groupmsa-nystrom'): set()
       for name in ('infonce', *IMAGE_TEXT)},
}


def _unlike(one, other, name='model'):
    """Names of the settings that differ; a part of another type is one."""
    if not (isinstance(one, dict) and isinstance(other, dict)) or \
            one.get('type') != other.get('type'):
        return set() if one == other else {name}
    return set().union(*(
        _unlike(one.get(key), other.get(key), key)
        for key in {*one, *other} - {'init_cfg'}))


def test_every_ablation_is_listed():
    assert {path.stem for path in PRETRAIN + FINETUNE} == {
        MAIN, MAIN_FINETUNE, *DIFFERENCES}


@pytest.mark.parametrize('name', DIFFERENCES)
def test_an_ablation_differs_in_what_it_says(name):
    main = MAIN if '-pretrain_' in name else MAIN_FINETUNE
    assert _unlike(read(main).model.to_dict(),
                   read(name).model.to_dict()) == DIFFERENCES[name]
    # The optimizer, the schedule and the data are the same.
    for key in ('param_scheduler', 'train_cfg'):
        assert read(main)[key] == read(name)[key]


def _run(cfg, checkpoints=None):
    """Train a shrunk config; return the runner, its start, and messages."""
    for name, checkpoint in (checkpoints or {}).items():
        cfg.model[name].init_cfg = pretrained(checkpoint, f'{name}.')
    if checkpoints and 'load_check' in cfg.default_hooks:
        cfg.default_hooks.load_check.allow_scratch = False
    for name in ('val_evaluator', 'test_evaluator'):
        if cfg.get(name) is not None:
            cfg[name].num_bootstrap = 20
    return train(cfg)


def _stage(name, folder, data, epochs=1):
    cfg = shrink_config(load(name), folder, data)
    cfg.train_cfg.max_epochs = epochs
    cfg.default_hooks.checkpoint.update(interval=1, save_best=None)
    return cfg


@pytest.fixture(scope='module')
def stages(tmp_path_factory, drawn_data):
    """The three stages of the main run, at reduced size."""
    folder = tmp_path_factory.mktemp('stages')
    genes = _run(_stage(STAGE0, folder / '0', drawn_data))
    file = folder / '0' / 'run' / 'epoch_1.pth'
    pretrained = _run(_stage(MAIN, folder / '1', drawn_data),
                      dict(data_preprocessor=file, gene_encoder=file))
    file = folder / '1' / 'run' / 'epoch_1.pth'
    tuned = _run(
        _stage(MAIN_FINETUNE, folder / '2', drawn_data),
        dict(data_preprocessor=file, aggregator=file, gene_encoder=file))
    return genes, pretrained, tuned


def test_each_stage_begins_with_what_the_last_one_left(stages):
    carried = [('gene_encoder.', 'data_preprocessor.'),
               ('gene_encoder.', 'data_preprocessor.', 'aggregator.')]
    for before, after, prefixes in zip(stages, stages[1:], carried,
                                       strict=False):
        left = before[0].model.state_dict()
        start = after[1].tensors
        names = [name for name in start if name.startswith(prefixes)]
        assert len(names) > 20
        for name in names:
            assert torch.equal(start[name], left[name]), name
        assert len(load_checks(after[2])) == len(prefixes) - 1
    assert set(stages[1][0].model.state_dict()) - set(
        stages[2][1].tensors) >= {'aggregator.mask_token'}


def test_pretraining_leaves_the_gene_encoder_alone(stages):
    runner, watch, _ = stages[1]
    after = runner.model.state_dict()
    for name, value in watch.tensors.items():
        same = name.startswith(('gene_encoder.', 'data_preprocessor.'))
        assert torch.equal(after[name], value) == same, name
    # Fine-tuning does not.
    runner, watch, _ = stages[2]
    after = runner.model.state_dict()
    assert not torch.equal(after['gene_encoder.cls_token'],
                           watch.tensors['gene_encoder.cls_token'])


def test_fine_tuning_is_scored(stages):
    scores = stages[2][0].message_hub.log_scalars
    for name in ('auc', 'accuracy', 'balanced_accuracy', 'auc_low',
                 'genes_hidden/auc', 'slides_hidden/auc_high'):
        assert 0 <= scores[f'val/slide/{name}'].current() <= 1


def test_a_wrong_checkpoint_ends_the_run(stages, tmp_path, drawn_data):
    """That of the first stage has no aggregator."""
    file = Path(stages[0][0].work_dir) / 'epoch_1.pth'
    with pytest.raises(ValueError, match='aggregator|0 of'):
        _run(_stage(MAIN_FINETUNE, tmp_path, drawn_data),
             dict(data_preprocessor=file, aggregator=file, gene_encoder=file))


def test_a_patient_without_genes_gets_an_answer_that_says_so(
        stages, tmp_path, drawn_data):
    runner = stages[2][0]
    cfg = _stage(MAIN_FINETUNE, tmp_path, drawn_data)
    write_slide_omic_cohort(
        tmp_path / 'some', num_cases=6, classes=('LUAD', 'LUSC'),
        patches=(20, 40), dims=8, num_genes=40, num_pathways=2,
        cases_without_genes=2)
    # The same genes as those that the model knows.
    dataset = cfg.test_dataloader.dataset
    dataset.update(data_root=str(tmp_path / 'some'), split=None,
                   missing_genes='keep')
    model = runner.model.eval()
    loader = Runner.build_dataloader(cfg.test_dataloader)
    said = {}
    with torch.no_grad():
        for data in loader:
            sample, = model.test_step(data)
            assert sample.pred_score.sum().item() == pytest.approx(1)
            said[sample.case_id] = sample.modalities
    assert sorted(said.values()) == ['slides'] * 2 + ['slides+genes'] * 4


# Check 25: a planted class.
# Half of the patches are in regions: their neighbours tell what they are,
# though a slide's mean, which is zero, does not. So there is something to
# reconstruct; the recipes' own share, 5 %, is a single patch of such bags.
PLANTED = dict(num_cases=180, patches=(20, 30), dims=8, num_genes=40,
               num_pathways=2, pathway_size=8, region_share=.25,
               classes=('LUAD', 'LUSC'))


def _loss_of_a_constant(root):
    """The least L1 of one answer for all patches: the training medians."""
    patches = []
    with (root / 'cohort.csv').open() as table:
        for row in csv.DictReader(table):
            if row['split'] == 'train':
                with h5py.File(
                        root / f'features/{row["slide_id"]}.h5') as file:
                    patches.append(file['features'][:])
    patches = np.concatenate(patches)
    return abs(patches - np.median(patches, axis=0)).mean()


@pytest.fixture(scope='module')
def planted(tmp_path_factory):
    """All stages on a cohort with the class in genes and slides."""
    folder = tmp_path_factory.mktemp('planted')
    scores = {}

    def stage(name, label, epochs, checkpoints=None, root=None, lr=3e-3):
        cfg = _stage(name, folder / label, folder / 'drawn', epochs)
        cfg.default_hooks.checkpoint.interval = epochs
        for loader in ('train_dataloader', 'val_dataloader'):
            if cfg.get(loader) is not None:
                dataset = cfg[loader].dataset
                dataset.data_root = str(root)
                # Each file is opened once.
                dataset.pipeline[0].max_open = PLANTED['num_cases']
                cfg[loader].batch_size = 12
        cfg.optim_wrapper.optimizer.lr = lr
        cfg.param_scheduler = []
        if cfg.train_cfg.get('val_interval'):
            cfg.train_cfg.val_interval = epochs
        cfg.experiment_name = label
        runner, watch, _ = _run(cfg, checkpoints)
        logged = runner.message_hub.log_scalars
        if 'val/slide/auc' in logged:
            scores[label] = logged['val/slide/auc'].current()
        return (folder / label / 'run' / f'epoch_{epochs}.pth', watch)

    both = write_slide_omic_cohort(
        folder / 'data', **PLANTED, slide_signal=8., gene_signal=4.)
    # With 54 patients of each class, AUC has a deviation of .06 by chance.
    nothing = write_slide_omic_cohort(
        folder / 'nothing', **PLANTED, slide_signal=0., gene_signal=0.,
        split_shares=(.2, .6, .2))
    # At a rate of 3e-3 the AUC of genes jumps from 1 to .14 and back.
    file, _ = stage(STAGE0, 'genes', 8, root=both, lr=1e-3)
    file, watch = stage(MAIN, 'pretraining', 30,
                        dict(data_preprocessor=file, gene_encoder=file), both)
    scores['losses'] = watch.losses
    scores['constant'] = _loss_of_a_constant(both)
    parts = dict(data_preprocessor=file, aggregator=file, gene_encoder=file)
    stage(MAIN_FINETUNE, 'both', 3, parts, both)
    slides_only = FINE.format('slides-only_nystrom')
    stage(slides_only, 'slides', 5, dict(aggregator=file), both)
    stage(slides_only, 'nothing planted', 6, dict(aggregator=file), nothing)
    return scores


def test_a_planted_class_is_found_and_else_nothing(planted):
    """The stages of the configs hand on what they learn, and invent nothing.

    It is planted nearly twice as strong as in the recipes, and five times as
    often: this says nothing of how well a weak class is found in few patches,
    for which ``test_mil/test_finite_cohort.py`` has less than their strength.
    """
    assert min(planted[name] for name in ('genes', 'slides', 'both')) > .85
    assert .3 < planted['nothing planted'] < .7
    # Pre-training is better than at the start, and than any constant.
    losses = planted['losses']
    first, last = (
        sum(one['loss_rec'] for one in part) / len(part)
        for part in (losses[:9], losses[-9:]))
    assert last < .9 * first
    assert last < .95 * planted['constant']
    assert losses[0]['tri_count'] == 12 * 5 * 6
