"""MSMAE's configs say what the paper says, and hand weights on.

Check 20 of the method's reference (learning rates per layer, what is decayed)
and the schedules, against formulas written out here; the chain from
pre-training to fine-tuning with drawn data; how the configs of Tables 3 and 8
differ from the main ones.
"""

import math
import re

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from shipped_configs import (
    CONFIGS,
    groups_of,
    hooks_of,
    load,
    load_checks,
    pretrained,
    rates_of,
    read,
    source_of,
    stem,
    train,
)

from mmmedmask.config_files import runner_keys
from mmmedmask.engine.attention.refresh import is_refresh_epoch
from mmmedmask.experiments.schema import find_recipes, read_recipe
from mmmedmask.shrinking.shrink import shrink_config

FOLDER = CONFIGS / 'msmae'
PAPER = [path for folder in ('.', 'ablations', 'benchmarks')
         for path in sorted((FOLDER / folder).glob('*.py'))]
PRETRAIN = [path for path in PAPER if re.match(r'(msmae|mae|amt)_', path.name)]
FINETUNE = [path for path in PAPER if path.name.startswith('vit-')]
SMALL = sorted((FOLDER / 'small').glob('vit-*.py'))
DATA = {'messidor2': ('data/messidor2/', 5),
        'brain-tumor-mri': ('data/brain_tumor_mri/', 4),
        'ham10000': ('data/ham10000/', 7), 'busi': ('data/busi/', 3)}
MAIN = 'msmae_vit-base-p16_1xb64-coslr-300e_messidor2'
MAIN_FINETUNE = 'vit-base-p16_msmae_1xb256-100e_messidor2'
PRE = '{}_vit-base-p16_1xb64-coslr-300e_messidor2'


def test_found_the_configs():
    assert len(PRETRAIN) >= 24
    assert len(FINETUNE) >= 26


#: By the folder of the data: the split without leaks, and the paper's.
SPLITS = {'data/busi': ('splits/grouped', 'splits/paper'),
          'data/ham10000': ('splits/lesion', 'splits/paper'),
          'data/brain_tumor_mri': ('splits/clean-train', 'splits/official')}


def _splits(cfg):
    """Folder of the data and split of each loader that has labels."""
    return [(dataset.data_root.rstrip('/'), dataset.split_folder)
            for dataset in (cfg[f'{part}_dataloader'].dataset
                            for part in ('train', 'val', 'test')
                            if cfg.get(f'{part}_dataloader'))
            if 'split_folder' in dataset]


def test_configs_take_the_split_without_leaks():
    found = 0
    for path in CONFIGS.rglob('*.py'):
        if not re.search('(busi|ham10000|brain-tumor-mri)(-[a-z]+)?$',
                         path.stem):
            continue
        of_paper = path.stem.endswith(('-paper', '-official'))
        for root, split in _splits(read(path)):
            assert split == SPLITS[root][of_paper], path.name
            found += 1
    assert found >= 100


@pytest.mark.parametrize('table', [1, 2, 7, 8])
@pytest.mark.parametrize('scale', ['paper', 'small'])
def test_tables_take_the_split_of_the_paper(table, scale):
    recipe = read_recipe(find_recipes()[f'msmae_table{table}'])
    found = 0
    for row in recipe.rows:
        for stage in (recipe.stages(row, scale) or {}).values():
            cfg = load(stage.config)
            cfg.merge_from_dict(dict(stage.options))
            for root, split in _splits(cfg):
                if root in SPLITS:
                    assert split == SPLITS[root][1], (row.name, stage)
                    found += 1
    assert found


@pytest.mark.parametrize(
    'path', sorted(CONFIGS.glob('**/msmae/small/*.py')), ids=stem)
def test_small_configs_save_on_the_way(path):
    cfg = read(path)
    assert cfg.default_hooks.checkpoint.interval \
        <= cfg.train_cfg.max_epochs / 2


def _check_pipeline(pipeline, crop):
    types = [transform.type for transform in pipeline]
    steps = ('RandomResizedCrop', 'RandomFlip') if crop else ('ResizeImage', )
    assert types == [
        f'mmmedmask.{name}' for name in ('LoadTile', *steps, 'PackTile')]
    assert pipeline[1].scale == 224
    if crop:
        assert tuple(pipeline[1].crop_ratio_range) == (.2, 1.)
        assert pipeline[1].interpolation == 'bicubic'
        assert pipeline[2].prob == .5


def _check_common(cfg, path, model, beta, splits):
    """Data, batches and optimiser, in Tables 4 and 5."""
    batch_size = int(re.search('1xb(\\d+)-', path.stem)[1])
    root, num_classes = DATA[
        re.sub('-(paper|official)$', '', path.stem.rpartition('_')[2])]
    assert cfg.default_scope == 'mmpretrain'
    assert cfg.model.type == f'mmmedmask.{model}'
    assert cfg.model.head.num_classes == num_classes
    for loader, split in splits.items():
        dataset = cfg[f'{loader}_dataloader'].dataset
        assert dataset.type == 'mmmedmask.LabelledImages'
        assert (dataset.data_root, dataset.split) == (root, split)
        _check_pipeline(dataset.pipeline, crop=loader == 'train')
    assert cfg.train_dataloader.batch_size == batch_size
    assert cfg.auto_scale_lr.base_batch_size == batch_size
    assert cfg.optim_wrapper.optimizer == dict(
        type='AdamW', lr=1e-3 * batch_size / 256, betas=(.9, beta),
        weight_decay=.05)


@pytest.mark.parametrize('path', PRETRAIN, ids=stem)
def test_pretraining(path):
    """Table 4."""
    cfg = read(path)
    _check_common(cfg, path, 'MSMAE', .95, dict(train='train'))
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.model.random_mask_ratio == .75
    decoder = cfg.model.neck
    assert (decoder.embed_dims, decoder.num_layers,
            decoder.num_heads) == (512, 8, 16)
    unlabelled = path.name.startswith(('mae_', 'amt_'))
    assert cfg.model.head.cls_weight == (0 if unlabelled else .1)
    hooks = hooks_of(cfg)
    assert {'TransformEpochHook', 'AttentionPanelHook',
            'NaNGuardHook'} <= set(hooks)
    assert ('AttentionMaskHook' in hooks) != path.name.startswith('mae_')
    with_masks = bool(re.search('(busi|ham10000)(-paper)?$', path.stem))
    assert ('LesionCoverageHook' in hooks) == with_masks
    for hook in hooks.values():
        if 'pipeline' in hook:
            _check_pipeline(hook.pipeline, crop=False)


@pytest.mark.parametrize('path', FINETUNE, ids=stem)
def test_fine_tuning(path):
    """Table 5, and no augmentation that the released code leaves out."""
    cfg = read(path)
    scratch = '_scratch_' in path.name
    _check_common(cfg, path, 'MSMAEClassifier', .999,
                  dict(train='train', val='val', test='val'))
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == (
        1 if scratch else .75)
    assert cfg.train_cfg.max_epochs == (300 if scratch else 100)
    assert cfg.model.get('train_cfg') is None
    backbone, head = cfg.model.backbone, cfg.model.head
    assert backbone.drop_path_rate == .1
    assert not backbone.fixed_pos_embed
    assert head.loss == dict(
        type='LabelSmoothLoss', label_smooth_val=.1, mode='original')
    assert head.init_cfg == dict(type='TruncNormal', layer='Linear', std=2e-5)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert evaluator.type == 'mmmedmask.DiseaseClassification'
        assert evaluator.get('graded', False) == ('messidor2' in path.name)
    hooks = hooks_of(cfg)
    assert {'TransformEpochHook', 'LoadCheckHook',
            'NaNGuardHook'} <= set(hooks)
    assert hooks['SafeCheckpointHook'].save_best == 'disease/top1'
    assert hooks['LoadCheckHook'].get('allow_scratch', False) == scratch
    assert (backbone.init_cfg is None) == scratch
    masked = cfg.model.mask_ratio + cfg.model.throw_ratio > 0
    assert ('AttentionMaskHook' in hooks) == (
        masked and cfg.model.get('masking') != 'random')
    assert masked != any(word in path.name for word in (
        '_scratch_', '_mae_', '_amt_', 'all-tokens'))


@pytest.mark.parametrize('path', FINETUNE + SMALL, ids=stem)
def test_checkpoint_is_what_a_shipped_config_leaves(path):
    """A path of a pre-training run that no config of ours would write."""
    cfg = read(path)
    init_cfg = cfg.model.backbone.get('init_cfg')
    if init_cfg is None:
        return
    source = read(source_of(init_cfg))
    assert source.train_dataloader.dataset.data_root == \
        cfg.train_dataloader.dataset.data_root


# Check 20: learning rates and decay.
def _groups(cfg):
    """Name of each parameter to the rate and decay of its group."""
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model)
    parameters = dict(model.named_parameters())
    return {name: (group['lr'], group['weight_decay'], parameters[name].ndim)
            for name, group in groups_of(model, cfg.optim_wrapper).items()}


def _narrow(cfg):
    cfg.model.backbone.update(img_size=32, init_cfg=None, arch=dict(
        embed_dims=16, num_layers=12, num_heads=2, feedforward_channels=32))
    if 'in_channels' in cfg.model.head:
        cfg.model.head.in_channels = 16
    return cfg


def _depth(name):
    """Depth as MAE counts it: 0 embeddings, 1 to 12 layers, 13 the rest."""
    if re.match(r'backbone\.(cls_token|pos_embed|patch_embed)', name):
        return 0
    layer = re.match(r'backbone\.layers\.(\d+)\.', name)
    return int(layer[1]) + 1 if layer else 13


@pytest.mark.parametrize('pooling', ['mean', 'cls'])
def test_lower_layers_learn_slower(pooling):
    """14 depths with rates of 0.75^(13 - depth), as MAE's fine-tuning."""
    cfg = load(MAIN_FINETUNE if pooling == 'mean' else
                'vit-base-p16_msmae-cls-pool_1xb256-100e_messidor2')
    groups = _groups(_narrow(cfg))
    assert {_depth(name) for name in groups} == set(range(14))
    decayed = set()
    for name, (rate, decay, ndim) in groups.items():
        assert rate == pytest.approx(1e-3 * .75**(13 - _depth(name))), name
        undecayed = ndim == 1 or name in ('backbone.cls_token',
                                          'backbone.pos_embed')
        assert decay == (0 if undecayed else .05), name
        decayed |= set() if undecayed else {name}
    # Four matrices per layer, the patches' and the head's.
    assert len(decayed) == 12 * 4 + 2
    assert groups['head.fc.weight'][0] == 1e-3
    norm = 'ln2' if pooling == 'mean' else 'ln1'
    assert groups[f'backbone.{norm}.weight'][:2] == (1e-3, 0)
    assert len({rate for rate, _, _ in groups.values()}) == 14
    # From scratch all layers learn alike.
    cfg = load('vit-base-p16_scratch_1xb256-300e_messidor2')
    assert {rate for rate, _, _ in _groups(_narrow(cfg)).values()} == {1e-3}


@pytest.mark.parametrize('name', [MAIN, PRE.format('msmae_released-code')])
def test_pretraining_decays_matrices_alone(name):
    """Norms, biases, tokens and positions are not decayed.

    The released code decays class and mask token.
    """
    groups = _groups(_narrow(load(name)))
    assert not any('pos_embed' in name for name in groups)
    decayed = {name for name, (_, decay, _) in groups.items() if decay}
    matrices = {
        name for name in groups
        if name.endswith('.weight') and not re.search(r'\.ln\d\.', name)}
    tokens = {one for one in groups if one.endswith(('cls_token',
                                                     'mask_token'))}
    assert len(tokens) == 2
    assert decayed == matrices | (set() if name == MAIN else tokens)
    # Patches, 12 and 8 layers, the decoder's two, and the class head.
    assert len(matrices) == 1 + 20 * 4 + 2 + 1
    assert {decay for _, decay, _ in groups.values()} == {0, .05}
    assert {rate for rate, _, _ in groups.values()} == {1e-3 * 64 / 256}


def _mae_rate(epoch, base, warm_up, epochs, low):
    """The rate that MAE's code sets, at a fraction of an epoch."""
    if epoch < warm_up:
        return base * epoch / warm_up
    done = (epoch - warm_up) / (epochs - warm_up)
    return low + (base - low) * .5 * (1 + math.cos(math.pi * done))


@pytest.mark.parametrize(('name', 'low'), [(MAIN, 0.), (MAIN_FINETUNE, 1e-6)])
def test_schedule_no_longer_than_the_warm_up(name, low):
    """As the schedules' comment says: the warm-up has to be shortened."""
    cfg = load(name)
    warm_up = cfg.param_scheduler[0].end
    cfg.train_cfg.max_epochs = warm_up
    with pytest.raises((AssertionError, ValueError)):
        rates_of(cfg, 3)
    cfg.param_scheduler[0].end = cfg.param_scheduler[1].begin = 1
    rates = rates_of(cfg, 3)[:, 0]
    base = cfg.optim_wrapper.optimizer.lr
    steps = torch.arange(3, len(rates))
    wanted = [_mae_rate(step / 3, base, 1, warm_up, low) for step in steps]
    torch.testing.assert_close(rates[3:].tolist(), wanted, rtol=.02, atol=0)


@pytest.mark.parametrize(
    'path', FINETUNE + SMALL + sorted((FOLDER / 'demo').glob('vit-*.py')),
    ids=stem)
def test_intervals_are_drawn_by_group(path):
    cfg = read(path)
    for split in ('val', 'test'):
        assert cfg[f'{split}_evaluator'].type.endswith('DiseaseClassification')
        pack = cfg[f'{split}_dataloader'].dataset.pipeline[-1]
        assert 'group' in pack.meta_keys


def test_pretraining_schedule():
    cfg = load(MAIN)
    rates = rates_of(cfg, 5)[:, 0]
    base = 2.5e-4
    expected = torch.tensor(
        [_mae_rate(i / 5, base, 40, 300, 0) for i in range(1500)],
        dtype=torch.float64)
    # A warm-up of 200 steps from 1e-4 of the rate reaches it one step sooner.
    torch.testing.assert_close(rates, expected, rtol=0, atol=base / 150)
    torch.testing.assert_close(rates[200:], expected[200:])
    assert rates[0] == pytest.approx(base * 1e-4)
    assert rates[199] == pytest.approx(base)
    assert rates[-1] < base * 1e-4


def test_fine_tuning_schedule():
    """Each layer's rate ends at a thousandth of its largest one, as MAE's."""
    cfg = load(MAIN_FINETUNE)
    scales = [.75**13, 1.]
    rates = rates_of(cfg, 4, scales)
    expected = torch.tensor(
        [[_mae_rate(i / 4, 1e-3, 5, 100, 1e-6) * scale for scale in scales]
         for i in range(400)], dtype=torch.float64)
    torch.testing.assert_close(rates[20:], expected[20:])
    torch.testing.assert_close(rates[:20], expected[:20], rtol=0, atol=6e-5)
    assert rates[-1, 1] == pytest.approx(1e-6, rel=.1)


def test_refreshes():
    """Pre-training at 40, 80, ..., 280, fine-tuning at 0, 20, ..., 80."""
    listed = {}
    for name in (MAIN, MAIN_FINETUNE):
        cfg = load(name)
        hook = hooks_of(cfg)['AttentionMaskHook']
        listed[name] = [epoch for epoch in range(cfg.train_cfg.max_epochs)
                        if is_refresh_epoch(epoch, hook.begin, hook.interval)]
    assert listed == {MAIN: [40, 80, 120, 160, 200, 240, 280],
                      MAIN_FINETUNE: [0, 20, 40, 60, 80]}


FINE = 'vit-base-p16_{}_1xb256-100e_messidor2'
ALL_TOKENS = {'mask_ratio': 0, 'throw_ratio': 0, 'attention_mask': None}
# Config to what is not as in the main one, written out; None is not there.
DIFFERENCES = {
    PRE.format('mae'): {'cls_weight': 0, 'attention_mask': None},
    PRE.format('amt'): {'cls_weight': 0},
    'msmae_vit-base-p16_1xb128-coslr-300e_messidor2':
    {'batch_size': 128, 'base_batch_size': 128, 'lr': 5e-4},
    'msmae_vit-base-p16_1xb256-coslr-300e_messidor2':
    {'batch_size': 256, 'base_batch_size': 256, 'lr': 1e-3},
    PRE.format('msmae_mask-75-throw-0'): {'mask_ratio': .75, 'throw_ratio': 0},
    PRE.format('msmae_mask-45-throw-40'): {'throw_ratio': .4},
    PRE.format('msmae_mask-30-throw-45'):
    {'mask_ratio': .3, 'throw_ratio': .45},
    PRE.format('msmae_interval-20'): {'interval': 20},
    PRE.format('msmae_interval-60'): {'interval': 60},
    PRE.format('msmae_interval-80'): {'interval': 80},
    PRE.format('msmae_mean-heads'): {'weight_norm': 'mean_heads'},
    PRE.format('msmae_norm-pix'): {'norm_pix': True},
    PRE.format('msmae_released-code'):
    {'begin': 41, 'masking': 'random', 'softmax_twice': True, 'decay_mult': 1},
    'msmae_vit-base-p8_1xb64-coslr-300e_messidor2': {'patch_size': 8},
    'msmae_vit-base-p32_1xb64-coslr-300e_messidor2': {'patch_size': 32},
    'msmae_vit-small-p16_1xb64-coslr-300e_messidor2': {'arch': 'deit-small'},
    'msmae_vit-tiny-p16_1xb64-coslr-300e_messidor2': {'arch': 'deit-tiny'},
    'msmae_vit-base-p16_1xb64-amp-coslr-300e_messidor2':
    {'type': 'mmmedmask.Bfloat16OptimWrapper'},
    FINE.format('mae'): {'checkpoint': PRE.format('mae'), **ALL_TOKENS},
    FINE.format('amt'): {'checkpoint': PRE.format('amt'), **ALL_TOKENS},
    FINE.format('msmae-all-tokens'): ALL_TOKENS,
    FINE.format('released-code'):
    {'checkpoint': PRE.format('msmae_released-code'), 'masking': 'random',
     'attention_mask': None},
    FINE.format('mae-masked'): {'checkpoint': PRE.format('mae')},
    FINE.format('amt-masked'): {'checkpoint': PRE.format('amt')},
    'vit-base-p16_msmae_1xb64-100e_messidor2':
    {'batch_size': 64, 'base_batch_size': 64, 'lr': 2.5e-4},
    'vit-base-p16_msmae_1xb128-100e_messidor2':
    {'batch_size': 128, 'base_batch_size': 128, 'lr': 5e-4},
    FINE.format('msmae-mask-75-throw-0'):
    {'checkpoint': PRE.format('msmae_mask-75-throw-0'), 'mask_ratio': .75,
     'throw_ratio': 0},
    FINE.format('msmae-mask-45-throw-40'):
    {'checkpoint': PRE.format('msmae_mask-45-throw-40'), 'throw_ratio': .4},
    FINE.format('msmae-mask-30-throw-45'):
    {'checkpoint': PRE.format('msmae_mask-30-throw-45'), 'mask_ratio': .3,
     'throw_ratio': .45},
    FINE.format('msmae-interval-10'): {'interval': 10},
    FINE.format('msmae-interval-30'): {'interval': 30},
    FINE.format('msmae-interval-40'): {'interval': 40},
    FINE.format('msmae-cls-pool'):
    {'out_type': 'cls_token', 'final_norm': True, 'allowed_missing': [],
     'allowed_unused': []},
}


def _flatten(node, key=''):
    """Leaves of a config by their path."""
    if isinstance(node, dict) and node:
        return {path: leaf
                for name, value in node.items()
                for path, leaf in _flatten(value, f'{key}.{name}').items()}
    if isinstance(node, (list, tuple)) and any(
            isinstance(item, dict) for item in node):
        return _flatten(dict(enumerate(node)), key)
    return {key: node}


def _settings(cfg):
    """Leaves that a runner reads; variables only serve to write a config."""
    cfg = cfg._cfg_dict.to_dict()
    cfg['default_hooks'] = {
        key: hook for key, hook in cfg['default_hooks'].items() if hook}
    keys = runner_keys()
    return _flatten({key: cfg[key] for key in cfg if key in keys})


@pytest.mark.parametrize('name', DIFFERENCES)
def test_an_ablation_differs_in_what_it_says(name):
    main = MAIN if name.startswith(('msmae_', 'mae_', 'amt_')) \
        else MAIN_FINETUNE
    main, other = _settings(read(main)), _settings(read(name))
    changed = {}
    for path in {*main, *other}:
        if main.get(path) == other.get(path):
            continue
        if path.startswith('.default_hooks.attention_mask.') \
                and path not in other:
            changed['attention_mask'] = None
            continue
        value = other[path]
        if path.endswith('.checkpoint'):
            value = re.fullmatch(r'work_dirs/(.+)/epoch_300\.pth', value)[1]
        changed[path.rpartition('.')[2]] = value
    assert changed == DIFFERENCES[name]


def _run(cfg, checkpoint=None):
    """Train a shrunk config from a checkpoint, under its load check."""
    if checkpoint is not None:
        cfg.model.backbone.init_cfg = pretrained(checkpoint)
        cfg.default_hooks.load_check.allow_scratch = False
    runner, start, messages = train(cfg)
    return runner, start.tensors, messages


@pytest.fixture(scope='module')
def pretraining(tmp_path_factory, drawn_data):
    """A pre-training run of the main config, and its checkpoint."""
    work_dir = tmp_path_factory.mktemp('pretrain')
    cfg = shrink_config(load(MAIN), work_dir, drawn_data)
    runner, _, _ = _run(cfg)
    return runner.model.state_dict(), work_dir / 'run' / 'epoch_1.pth'


@pytest.mark.parametrize(('name', 'norm'), [
    (MAIN_FINETUNE, 'ln2'),
    ('vit-base-p16_msmae-cls-pool_1xb256-100e_messidor2', 'ln1'),
    ('vit-base-p16_msmae-all-tokens_1xb256-100e_messidor2', 'ln2')])
def test_pretrain_then_fine_tune(tmp_path, drawn_data, pretraining, name,
                                 norm):
    tensors, checkpoint = pretraining
    cfg = shrink_config(load(name), tmp_path, drawn_data)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.num_bootstrap = 20
    runner, start, messages = _run(cfg, checkpoint)
    carried = {key for key in tensors if key.startswith('backbone.') and
               (norm == 'ln1' or not key.startswith('backbone.ln1.'))}
    for key in carried:
        assert torch.equal(start[key], tensors[key]), key
    assert set(start) - carried == {
        'head.fc.weight', 'head.fc.bias'
    } | ({'backbone.ln2.weight', 'backbone.ln2.bias'} if norm == 'ln2' else
         set())
    line, = load_checks(messages)
    assert f'{len(carried)} of {len(carried)} tensors are equal' in line
    scores = runner.message_hub.log_scalars
    assert 0 <= scores['val/disease/top1'].current() <= 1
    assert 'val/disease/kappa' in scores
    assert list((tmp_path / 'run').glob('best_disease_top1_*.pth'))


@pytest.mark.parametrize(('change', 'message'), [
    (('backbone.', 'encoder.'), '0 of .* names and shapes fit'),
    (('backbone.layers.0.', 'backbone.layers.9.'),
     r'are not in the checkpoint.*layers\.0')])
def test_a_wrong_checkpoint_stops_fine_tuning(tmp_path, drawn_data,
                                              pretraining, change, message):
    tensors, _ = pretraining
    wrong = {name.replace(*change): value for name, value in tensors.items()}
    torch.save({'state_dict': wrong}, tmp_path / 'wrong.pth')
    cfg = shrink_config(load(MAIN_FINETUNE), tmp_path, drawn_data)
    with pytest.raises(ValueError, match=f'(?s){message}'):
        _run(cfg, tmp_path / 'wrong.pth')


def test_pretraining_continues_from_converted_weights(tmp_path, drawn_data,
                                                      pretraining):
    """MAE's names, converted, are what load_from then loads and checks."""
    from mmmedmask.engine.checkpoint.mae_conversion import convert_mae
    tensors, _ = pretraining
    official, _ = convert_mae(tensors, 'mae')
    official = {name: value + .01 for name, value in official.items()}
    converted, _ = convert_mae(official)
    torch.save({'state_dict': converted}, tmp_path / 'converted.pth')
    cfg = shrink_config(
        load('msmae_mae-vit-base-p16_1xb64-coslr-300e_messidor2'), tmp_path,
        drawn_data)
    cfg.load_from = str(tmp_path / 'converted.pth')
    cfg.default_hooks.load_check.allow_scratch = False
    _, start, messages = _run(cfg)
    for name, value in converted.items():
        assert torch.equal(start[name], value), name
    assert set(start) - set(converted) == {'head.fc.weight', 'head.fc.bias'}
    checked = [re.search(r'(\d+) of (\d+) tensors are equal', line)
               for line in load_checks(messages)]
    assert sum(int(counts[1]) for counts in checked) == len(converted)
    assert all(counts[1] == counts[2] for counts in checked)
    # Without a decoder in the file the run must not start.
    encoder = {k: v for k, v in converted.items() if 'neck' not in k}
    torch.save({'state_dict': encoder}, tmp_path / 'converted.pth')
    with pytest.raises(ValueError, match=r'decoder_blocks\.0\.ln1'):
        _run(cfg)


HOW_TO = CONFIGS.parent / 'docs' / 'how_to' / 'add_a_masking_strategy.md'


def test_the_how_to_on_masking_strategies_works(tmp_path, drawn_data):
    """Its code runs as printed: a model with maps of its own, and a hook."""
    from mmmedmask.registry import HOOKS, MODELS
    blocks = re.findall(r'^```python\n(.*?)^```', HOW_TO.read_text('utf-8'),
                        re.MULTILINE | re.DOTALL)
    names = {}
    try:
        for block in blocks:
            exec(block, names)
        cfg = shrink_config(load(MAIN), tmp_path, drawn_data)
        cfg.model.type = names['model']['type']
        runner, _, _ = _run(cfg)
        assert type(runner.model).__name__ == 'TokenNormMSMAE'
        hook = next(hook for hook in runner.hooks
                    if type(hook).__name__ == 'AttentionMaskHook')
        # Lengths of tokens are not in [0, 1], as attention is.
        assert hook.store.values.max() > 1
        cfg = shrink_config(load(MAIN), tmp_path, drawn_data)
        cfg.default_hooks.attention_mask = dict(
            type='mmmedmask.CentreMaskHook')
        cfg.experiment_name = 'centre'
        runner = Runner.from_cfg(cfg)
        seen = []
        partition = runner.model.partition

        def watch(inputs, data_samples):
            seen.append((data_samples, partition(inputs, data_samples)))
            return seen[-1][1]

        runner.model.partition = watch
        runner.train()
        trained = [flags for samples, flags in seen
                   if 'attention_map' in samples[0]]
        assert len(trained) >= 2
        assert all(one.thrown.shape[1] > 0 for one in trained)
    finally:
        for registry, name in ((MODELS, 'TokenNormMSMAE'),
                               (HOOKS, 'CentreMaskHook')):
            registry.module_dict.pop(name, None)
