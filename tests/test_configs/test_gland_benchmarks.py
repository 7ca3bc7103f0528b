"""The gland benchmarks say what the reference says, and inherit weights."""

import re

import pytest
import torch
from mmengine.hooks import Hook
from mmpretrain.models import ResNet
from shipped_configs import (
    CONFIGS,
    groups_of,
    load,
    load_checks,
    parameters_in,
    pretrained,
    read,
    source_of,
    train,
)

from mmmedmask.shrinking.shrink import shrink_config

BENCHMARKS = CONFIGS / 'cmim' / 'benchmarks'
NAMES = sorted(path.stem for path in BENCHMARKS.glob('*.py'))
MAIN = 'mask-rcnn_cmim-resnet18-fpn_8xb2-{}_{}'


# Iterations and steps of the learning rate, written out.
SCHEDULES = {('glas', '0.5x'): (2500, [2000]), ('glas', '1x'): (5000, [4000]),
             ('glas', '2x'): (10000, [8000]), ('glas', '3x'): (15000, [12000]),
             ('glas', '5x'): (25000, [20000]),
             ('crag', '0.5x'): (7500, [5000, 6500]),
             ('crag', '1x'): (15000, [10000, 13000]),
             ('crag', '2x'): (30000, [20000, 26000]),
             ('crag', '3x'): (45000, [30000, 39000]),
             ('crag', '5x'): (75000, [50000, 65000])}


@pytest.mark.parametrize(('data', 'schedule'), SCHEDULES)
def test_schedule(data, schedule):
    cfg = read(MAIN.format(schedule, data))
    max_iters, milestones = SCHEDULES[data, schedule]
    assert cfg.train_cfg.max_iters == max_iters
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.type, warm_up.begin, warm_up.end, warm_up.start_factor,
            warm_up.by_epoch) == ('LinearLR', 0, 1000, .001, False)
    assert (steps.type, steps.milestones, steps.gamma,
            steps.by_epoch) == ('MultiStepLR', milestones, .1, False)
    # Batches of 2 on each of 8 GPUs.
    assert cfg.train_dataloader.batch_size * 8 == 16
    assert cfg.auto_scale_lr.base_batch_size == 16


@pytest.mark.parametrize('name', NAMES)
def test_settings_that_all_share(name):
    cfg = read(name)
    data = name.rsplit('_', 1)[1]
    schedule = re.search(r'8xb2-(.+)_', name)[1]
    max_iters, _ = SCHEDULES[data, schedule]
    assert cfg.default_scope == 'mmdet'
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (
        max_iters, max_iters)
    backbone = cfg.model.backbone
    assert (backbone.frozen_stages, backbone.norm_eval, backbone.style,
            backbone.norm_cfg) == (-1, False, 'pytorch',
                                   dict(type='SyncBN', requires_grad=True))
    preprocessor = cfg.model.data_preprocessor
    assert preprocessor.mean == [123.675, 116.28, 103.53]
    assert preprocessor.std == [58.395, 57.12, 57.375]
    assert preprocessor.bgr_to_rgb
    optimizer = cfg.optim_wrapper.optimizer
    retinanet = name.startswith('retinanet')
    assert dict(optimizer) == dict(type='SGD', lr=.01 if retinanet else .02,
                                   momentum=.9, weight_decay=1e-4)
    assert cfg.optim_wrapper.paramwise_cfg.norm_decay_mult == 0
    assert cfg.optim_wrapper.get('clip_grad') is None
    assert cfg.default_hooks.precise_bn.num_batches == 200
    low, high, test = (400, 522, 522) if data == 'glas' else (768, 1024, 768)
    train = {t.type: t for t in cfg.train_dataloader.dataset.pipeline}
    assert train['RandomResize'].scale == [(1333, low), (1333, high)]
    assert train['RandomFlip'].prob == .5
    tested = {t.type: t for t in cfg.test_dataloader.dataset.pipeline}
    assert tested['Resize'].scale == (1333, test)
    for loader in (cfg.train_dataloader, cfg.val_dataloader,
                   cfg.test_dataloader):
        assert loader.dataset.data_root == f'data/{data}/'
    assert cfg.train_dataloader.batch_sampler.type == 'AspectRatioBatchSampler'
    assert cfg.train_dataloader.dataset.filter_cfg.filter_empty_gt
    if not retinanet:
        assert not cfg.model.train_cfg.rcnn.assigner.match_low_quality
        for head in ('bbox_head', 'mask_head'):
            assert cfg.model.roi_head[head].num_classes == 1
            assert 'norm_cfg' not in cfg.model.roi_head[head]
    assert 'norm_cfg' not in cfg.model.get('rpn_head', {})


def test_weight_decay_reaches_everything_but_norms(tmp_path, drawn_data):
    from mmengine.registry import MODELS, init_default_scope
    cfg = shrink_config(load(MAIN.format('1x', 'glas')), tmp_path, drawn_data)
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model)
    norms = parameters_in(model, torch.nn.BatchNorm2d)
    assert len(norms) == 2 * (20 + 8)  # ResNet-18 and FPN
    groups = groups_of(model, cfg.optim_wrapper)
    assert set(groups) == {name for name, _ in model.named_parameters()}
    for name, group in groups.items():
        assert group['weight_decay'] == (0 if name in norms else 1e-4), name


def test_variants_differ_in_the_checkpoint_alone():
    main = load(MAIN.format('1x', 'glas'))
    for variant in ('cmim-emb-masking', 'cmim-emb-invariance', 'imagenet',
                    'scratch'):
        other = load(f'mask-rcnn_{variant}-resnet18-fpn_8xb2-1x_glas')
        assert other.model.backbone.init_cfg != main.model.backbone.init_cfg
        for cfg in (main, other):
            cfg.model.backbone.pop('init_cfg', None)
            cfg.default_hooks.pop('load_check', None)
            cfg.pop('checkpoint')
        assert other._cfg_dict == main._cfg_dict
        main = load(MAIN.format('1x', 'glas'))


@pytest.mark.parametrize('name', NAMES)
def test_checkpoint_is_what_a_shipped_config_leaves(name):
    """A path of a pre-training run that no config of ours would write."""
    init_cfg = read(name).model.backbone.init_cfg
    if init_cfg and not init_cfg.checkpoint.startswith('torchvision://'):
        source_of(init_cfg)


class Events(Hook):
    def __init__(self):
        self.events = []

    def before_train_iter(self, runner, **kwargs):
        self.events.append('iter')

    def before_val(self, runner):
        self.events.append('val')

    def before_save_checkpoint(self, runner, checkpoint):
        self.events.append('save')


def _write_cmim(path, tensors):
    """A file as a CMIM run leaves it."""
    state = {f'backbone.{k}': torch.randn_like(v) * .05 if
             v.is_floating_point() else v for k, v in tensors.items()}
    state['mask_tokens.0'] = torch.zeros(1, 64, 1, 1)
    for name in state:
        if name.endswith('running_var'):
            state[name] = state[name].abs() + .5
    torch.save({'state_dict': state, 'meta': {'epoch': 800}}, path)
    return state


def _with_checkpoint(cfg, checkpoint):
    init_cfg = pretrained(checkpoint)
    cfg.model.backbone.init_cfg = init_cfg
    if 'shared_head' in cfg.model.get('roi_head', {}):
        cfg.model.roi_head.shared_head.init_cfg = init_cfg
    cfg.default_hooks.load_check.allow_scratch = False
    return cfg


@pytest.mark.parametrize('name', [MAIN.format('1x', 'glas'),
                                  'mask-rcnn_cmim-resnet18-c4_8xb2-1x_glas',
                                  'retinanet_cmim-resnet18-fpn_8xb2-1x_glas'])
def test_trains_from_a_checkpoint_and_evaluates_once(name, tmp_path,
                                                     drawn_data):
    torch.manual_seed(0)
    cfg = shrink_config(load(name), tmp_path, drawn_data)
    state = _write_cmim(tmp_path / 'epoch_800.pth', ResNet(18).state_dict())
    cfg = _with_checkpoint(cfg, tmp_path / 'epoch_800.pth')
    events = Events()
    _, start, messages = train(cfg, events)
    # Saved before the validation, and after it, to say that it is done, even
    # by a RetinaNet that finds nothing and has no scores.
    assert events.events == ['iter', 'iter', 'save', 'val', 'save']
    line, = load_checks(messages)
    assert '120 of 120 tensors are equal' in line
    assert any('Precise BN: statistics of 2' in line for line in messages)
    parts = ['backbone.'] + ['roi_head.shared_head.'] * ('c4' in name)
    loaded = {key.removeprefix(part): value
              for key, value in start.tensors.items()
              for part in parts if key.startswith(part)}
    assert len(loaded) == 120
    for key, value in loaded.items():
        assert torch.equal(value, state[f'backbone.{key}']), key


def test_a_checkpoint_of_another_depth_ends_the_run(tmp_path, drawn_data):
    """A ResNet-34 holds every name and shape of a ResNet-18."""
    cfg = shrink_config(load(MAIN.format('1x', 'glas')), tmp_path, drawn_data)
    _write_cmim(tmp_path / 'epoch_800.pth', ResNet(34).state_dict())
    cfg = _with_checkpoint(cfg, tmp_path / 'epoch_800.pth')
    with pytest.raises(ValueError, match='of a deeper network'):
        train(cfg)
