"""check_config.py: broken configs are named, shipped ones raise no alarm."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from commands import call
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.logging import MMLogger
from mmengine.registry import OPTIMIZERS, init_default_scope
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.registry import OPTIMIZERS as MMPRETRAIN_OPTIMIZERS
from refusals import refuses
from shipped_configs import CONFIGS, load, read
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from mmmedmask.config_files import load_config
from mmmedmask.inspection import (
    CheckOptions,
    check_config,
    check_static,
    costs,
    measuring,
)
from mmmedmask.inspection.building import build_parts
from mmmedmask.inspection.paths import check_paths, data_is_there
from mmmedmask.inspection.schedules import check_batch, check_schedules
from mmmedmask.inspection.signatures import accepted_parameters
from mmmedmask.inspection.trial import full_size_config
from mmmedmask.inspection.unknown_keys import check_types
from mmmedmask.inspection.weights import (
    check_starting_weights,
    compare_weights,
)


@pytest.fixture
def tiny(tiny_classification):
    return Config.fromfile(tiny_classification)


def broken(config, key, value):
    config = copy.deepcopy(config)
    config.merge_from_dict({key: value})
    return config


def texts(findings, *statuses):
    return [f'{finding.where}: {finding.message} -> {finding.mend}'
            for finding in findings if finding.status in (
                statuses or ('red', 'yellow'))]


def test_shipped_configs_raise_no_alarm():
    """No shipped config has an unknown type or key, or an unused variable."""
    files = [path for path in sorted(CONFIGS.rglob('*.py'))
             if '_base_' not in path.parts]
    assert len(files) >= 200
    alarms = [f'{file.stem}: {text}' for file in files
              for text in texts(check_static(read(file)))]
    assert not alarms, '\n'.join(alarms)


@pytest.mark.parametrize(('key', 'value', 'below', 'meant'), [
    ('model.backbone.depht', 18, '', 'depth'),
    ('model.backbone.type', 'ResNett', '', 'ResNet'),
    ('model.backbone.norm_cfg', dict(type='BN', epz=1e-5), '.epz', 'eps'),
    ('model.backbone.init_cfg', dict(type='Pretrained', checkpint='x.pth'),
     '.checkpint', 'checkpoint'),
    ('model.head.loss.loss_wieght', 1., '', 'loss_weight'),
    ('train_dataloader.bach_size', 4, '', 'batch_size'),
    ('train_dataloader.dataset.data_prefx', 'x', '', 'data_prefix'),
    ('train_dataloader.dataset.pipeline.0.colour_type', 'color', '',
     'color_type'),
    ('train_dataloader.sampler.shufle', True, '', 'shuffle'),
    ('optim_wrapper.optimizer.momentun', .9, '', 'momentum'),
    ('optim_wrapper.accumulative_count', 2, '', 'accumulative_counts'),
    ('optim_wrapper.paramwise_cfg', dict(norm_decay_multi=0.),
     '.norm_decay_multi', 'norm_decay_mult'),
    ('optim_wrapper.constructor', 'LearningRateDecayOptimConstructor', '',
     'LearningRateDecayOptimWrapperConstructor'),
    ('param_scheduler', [dict(type='MultiStepLR', milestone=[1])],
     '.0.milestone', 'milestones'),
    ('train_cfg.max_epoch', 3, '', 'max_epochs'),
    ('default_hooks.logger.intervall', 1, '', 'interval'),
    ('default_hooks.chekpoint', dict(interval=2), '', 'checkpoint'),
    ('custom_hooks', [dict(type='LoadCheckHook')], '.0.type',
     'mmmedmask.LoadCheckHook'),
    ('custom_hooks', [dict(type='mmmedmask.LoadChekHook')], '.0.type',
     'mmmedmask.LoadCheckHook'),
    ('val_evaluator.topks', (1, ), '', 'topk'),
    ('env_cfg', dict(cudnn_benchmrk=True), '.cudnn_benchmrk',
     'cudnn_benchmark'),
    ('randomness.sed', 1, '', 'seed'),
    ('auto_scale_lr.base_batchsize', 8, '', 'base_batch_size'),
    ('visualizer.vis_backends', [dict(type='LocalVisBackend', save_dri='x')],
     '.0.save_dri', 'save_dir')])
def test_names_an_unknown_key(tiny, key, value, below, meant):
    found, = texts(check_types(broken(tiny, key, value)), 'red')
    assert found.startswith(f'{key}{below}: ')
    assert repr(meant) in found
    reason = {'depth': "ResNet takes no 'depht'",
              'ResNet': "'ResNett' is registered nowhere"}.get(meant, '')
    assert reason in found


@pytest.mark.parametrize(('key', 'value'), [
    ('default_hooks.checkpoint.save_last', 'no'),
    ('train_dataloader.sampler.shuffle', 'False'),
    ('model.backbone', dict(type='mmmedmask.MSMAEViT', final_norm='off'))])
def test_text_is_no_truth_value(tiny, key, value):
    found = ''.join(texts(check_types(broken(tiny, key, value)), 'red'))
    assert 'any text is true, got ' in found


@pytest.mark.parametrize(('key', 'value'), [
    ('model.backbone.norm_cfg', dict(type='BN', requires_grad=True, eps=1)),
    ('model.backbone.norm_cfg', dict(type='GN', num_groups=2)),
    ('model.backbone.init_cfg',
     [dict(type='Kaiming', layer='Conv2d'),
      dict(type='Constant', val=1, layer='BN', override=dict(name='fc'))]),
    ('custom_hooks', [dict(type='EMAHook', momentum=.1, priority=49)]),
    ('param_scheduler',
     [dict(type='LinearLR', start_factor=.1, by_epoch=True, end=1,
           convert_to_iter_based=True)]),
    ('optim_wrapper.clip_grad', dict(max_norm=1., norm_type=2)),
    ('train_dataloader.num_batch_per_epoch', 3),
    ('model.train_cfg', dict(augments=[dict(type='Mixup', alpha=.8)])),
    ('model.train_cfg', {0: dict(num=1), 1: dict(num=2)}),
    ('model.backbone.type', 'mmdet.ResNet'),
    # A hook may be switched off.
    ('default_hooks.nan_guard', None),
    ('default_hooks.logger', None),
])
def test_raises_no_false_alarm(tiny, key, value):
    assert texts(check_types(broken(tiny, key, value))) == []


def test_a_test_loop_of_probes_needs_no_loader(tiny):
    tiny.test_dataloader = dict()
    assert "no 'dataset'" in ''.join(texts(check_types(tiny)))
    tiny.test_cfg = dict(type='mmmedmask.ProbeLoop', data='nowhere')
    assert not check_types(tiny)
    assert 'test_cfg.data' in {
        one.where for one in check_paths(tiny) if one.status == 'red'}
    tiny.test_dataloader = dict(
        batch_size=1, dataset=dict(type='mmmedmask.LabelledImages'))
    assert ('test_dataloader: ProbeLoop reads its own images -> '
            'set test_dataloader=dict()') in texts(check_types(tiny))


def test_a_hook_with_a_longer_name_than_a_standard_one(tiny):
    tiny.default_hooks.best_checkpoint = dict(
        type='mmmedmask.BestCheckpointHook')
    assert not check_types(tiny)
    del tiny.default_hooks.best_checkpoint['type']
    found, = texts(check_types(tiny), 'red')
    assert "did you mean 'checkpoint'?" in found


@pytest.mark.parametrize(('key', 'meant'), [
    ('model.train_cfg.rcnn.score_thresh', 'score_thr'),
    # CheckpointHook hands what it does not know on to the file client.
    ('default_hooks.checkpoint.intervall', 'interval'),
    ('default_hooks.checkpoint.max_keep_ckpt', 'max_keep_ckpts')])
def test_warns_where_nothing_tells_which_keys_are_read(tiny, key, meant):
    tiny.model.train_cfg = dict(rcnn=dict(score_thr=.05, max_per_img=100))
    assert not check_types(tiny)
    found, = texts(check_types(broken(tiny, key, 1)), 'yellow')
    assert found.startswith(f'{key}: ')
    assert repr(meant) in found


def test_follows_keyword_arguments():
    class Base(nn.Module):
        def __init__(self, width, init_cfg=None):
            super().__init__()

    class Child(Base):
        def __init__(self, depth, **kwargs):
            kwargs.pop('old_name', None)
            super().__init__(width=depth, **kwargs)

    class Hider(Base):
        def __init__(self, depth, **kwargs):
            super().__init__(depth)
            self.kwargs = kwargs

    child = accepted_parameters(Child)
    assert child.closed
    assert child.names == {'depth', 'old_name', 'width', 'init_cfg'}
    # Where they go is not known, so nothing can be said of any key.
    assert not accepted_parameters(Hider).closed
    assert accepted_parameters(nn.Conv2d).closed
    assert not accepted_parameters(lambda a, **b: a).closed


def write_configs(folder, base, child):
    (folder / 'base.py').write_text(base)
    file = folder / 'child.py'
    file.write_text(f"_base_ = './base.py'\n{child}")
    return file


def variables(file):
    return [finding for finding in check_static(Config.fromfile(file))
            if finding.check == 'variable']


@pytest.mark.parametrize(('base', 'child', 'status', 'parts'), [
    ('', 'optim_wraper = dict(clip_grad=None)\n', 'red',
     ['optim_wraper (child.py, line 2)', "'optim_wrapper'"]),
    ('', 'loader = dict()\n', 'yellow',
     ['loader (child.py, line 2)', "nothing reads 'loader'"]),
    ('epochs = 5\ntrain_cfg = dict(max_epochs=epochs)\n', 'epochs = 9\n',
     'yellow', ['epochs (child.py', 'the base has used its own value']),
    # MMEngine reads the first of two lists of bases.
    ('epochs = 5\ntrain_cfg = dict(max_epochs=epochs)\n',
     "epochs = 9\n_base_ = './elsewhere.py'\n",
     'yellow', ['epochs (child.py', 'the base has used its own value']),
    ('offered = 5\ntrain_dataloder = 3\n', '', 'red',
     ['train_dataloder (base.py, line 2)', "'train_dataloader'"]),
])
def test_names_a_variable_without_effect(tmp_path, base, child, status,
                                         parts, caplog):
    file = write_configs(tmp_path, base, child)
    finding, = variables(file)
    assert finding.status == status
    found, = texts([finding])
    assert all(part in found for part in parts), found
    if 'nothing reads' in found or 'base.py' in finding.where:
        logger = MMLogger.get_instance('unused')
        logger.addHandler(caplog.handler)
        load_config(file)
        assert (finding.where in caplog.text) == ('child' in finding.where)
    else:
        # Every tool that reads a config names it.
        with pytest.raises(ValueError, match='without effect') as error:
            load_config(file)
        assert finding.where in str(error.value)


def test_a_dumped_config_is_read_as_it_is(tmp_path):
    """It has all variables, and nothing that has read them."""
    file = write_configs(
        tmp_path, 'test_pipelines = [1]\nepochs = 5\n',
        'epochs = 9\nmodel = dict(a=epochs, b=_base_.test_pipelines)\n')
    dumped = tmp_path / 'dumped.py'
    load_config(file).dump(dumped)
    assert 'test_pipelines' in dumped.read_text()
    assert load_config(dumped).model == dict(a=9, b=[1])


@pytest.mark.parametrize(('base', 'child'), [
    ('epochs = 5\n', 'train_cfg = dict(max_epochs=_base_.epochs)\n'),
    ('epochs = 5\n', 'train_cfg = dict(max_epochs={{_base_.epochs}})\n'),
    ('', 'epochs = 5\ntrain_cfg = dict(max_epochs=epochs)\n'),
    ('epochs = 5\nx = epochs\n', 'model = dict(x=_base_.x)\n'),
    ('offered = 5\n', ''),
    ('', "_base_ = ['mmpretrain::_base_/default_runtime.py']\n")])
def test_variables_that_are_used(tmp_path, base, child):
    file = write_configs(tmp_path, base, child)
    assert variables(file) == []
    load_config(file)


def test_names_missing_paths(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert texts(check_paths(tiny)) == []
    (tmp_path / 'data/busi/splits/paper').mkdir(parents=True)
    (tmp_path / 'data/busi/splits/paper/test.csv').touch()
    (tmp_path / 'work_dirs/run').mkdir(parents=True)
    (tmp_path / 'work_dirs/run/epoch_3.pth').touch()
    images = dict(type='mmmedmask.LabelledImages', data_root='data/busi')
    config = Config(dict(
        train_dataloader=dict(dataset=images),
        val_dataloader=dict(dataset=dict(
            type='CocoDataset', data_root='data/glas/', ann_file='a.json')),
        val_evaluator=dict(type='CocoMetric', ann_file='data/crag/a.json'),
        model=dict(
            backbone=dict(init_cfg=dict(
                type='Pretrained', checkpoint='work_dirs/'
                'cmim_resnet18_8xb32-coslr-800e_nct/epoch_800.pth')),
            teacher=dict(checkpoint='https://example.org/a.pth')),
        load_from='work_dirs/run/epoch_9.pth'))
    (tmp_path / 'work_dirs/run/genes.txt').touch()
    [found] = check_paths(Config(dict(test_dataloader=dict(dataset=dict(
        type='mmmedmask.SlideOmicDataset', data_root='data/busi',
        gene_list='work_dirs/run/genes.txt')))))[1:]
    assert found.message.startswith('data/busi/work_dirs/run/genes.txt does ')
    assert found.mend.endswith(
        f'write {str(tmp_path / "work_dirs/run/genes.txt")!r}')
    folder = dict(type='CustomDataset', data_prefix='data/none')
    [found] = texts(check_paths(Config(dict(
        test_dataloader=dict(dataset=folder)))), 'red')
    assert found.startswith('test_dataloader.dataset.data_prefix: data/none')
    red = texts(check_paths(config), 'red')
    assert len(red) == 6, red
    assert 'split_folder: data/busi/splits/paper/train.csv' in red[1]
    assert 'paper holds test.csv' in red[1]
    assert 'tools/dataset_converters/convert.py busi ' in red[0]
    # One line for the folder, and none for what is below it.
    assert 'val_dataloader.dataset.data_root: data/glas' in red[2]
    assert 'docs/datasets.md#glas' in red[2]
    assert 'val_evaluator.ann_file' in red[3]
    assert 'convert.py crag data/crag' in red[3]
    assert 'train it first' in red[4]
    assert 'cmim_resnet18_8xb32-coslr-800e_nct.py' in red[4]
    assert 'load_from' in red[5]
    assert 'holds epoch_3.pth' in red[5]
    assert 'downloaded' in texts(check_paths(config), 'yellow')[0]


def test_data_at_an_address_are_not_looked_at(tmp_path, monkeypatch):
    """Nor are they called missing; a run fetches them."""
    monkeypatch.chdir(tmp_path)
    config = load('cmim_resnet18_1xb32-coslr-800e_tile-shards')
    config.train_dataloader.dataset.update(
        data_root='s3://bucket/tiles', index_dir='index')
    config.val_evaluator = dict(type='CocoMetric',
                                ann_file='https://example.org/a.json')
    found = check_paths(config)
    assert [(one.status, one.check, one.where) for one in found] == [
        ('yellow', 'remote', 'train_dataloader.dataset.data_root'),
        ('yellow', 'remote', 'val_evaluator.ann_file')]
    assert found[0].message.startswith('s3://bucket/tiles is not on this')
    assert not data_is_there(config.train_dataloader.dataset)
    assert not build_parts(config).datasets
    assert not Path('index').exists()


def test_a_model_without_its_files_is_no_broken_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, missing in (
            ('groupmsa_sets_1xb32-6e_tcga-brca',
             ['gene_list: data/tcga-brca/genes.txt',
              'gene_sets: data/tcga-brca/signatures.csv']),
            ('eva_vit-small-p16_8xb32-coslr-800e_nct', ['clip_vit_base_16'])):
        report = check_config(load(name), CheckOptions(run_steps=False))
        assert {finding.check for finding in report.findings
                if finding.status == 'red'} == {'path'}
        found = ' '.join(texts(report.findings, 'red'))
        assert all(part in found for part in missing)
        [model] = [finding.message for finding in report.findings
                   if finding.check == 'model']
        assert 'not built: a file' in model


def small_net():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def test_compares_weights(tmp_path):
    file = str(tmp_path / 'weights.pth')
    weights = small_net().state_dict()

    def compare(state, prefix=None, **options):
        torch.save(state, file)
        return compare_weights([small_net()], file, prefix, 'key', **options)

    # Files from before the counter of BatchNorm, and with a head.
    old = {key: value for key, value in weights.items()
           if 'num_batches' not in key} | {'fc.weight': torch.ones(1)}
    prefixed = {f'backbone.{key}': value for key, value in weights.items()}
    wide = {**weights, '0.weight': torch.ones(5, 4)}
    nans = {**weights, '0.bias': torch.full((3, ), torch.nan)}
    for finding, status, parts in (
            (compare(weights), 'green', ['7 of 7 tensors fit (100.0 %)']),
            (compare(old), 'green', ['1 are used by nothing']),
            (compare(dict(state_dict=prefixed)), 'red',
             ['0 of 6', "under the prefix 'backbone.'"]),
            (compare(prefixed, 'backbone'), 'green', []),
            (compare(wide), 'red', [
                '0.weight: (5, 4) in the checkpoint, (3, 4) in', '85.7 %']),
            (compare(wide, part=True), 'yellow', []),
            (compare(prefixed, part=True), 'red', []),
            (compare(nans, part=True), 'red', ['diverged'])):
        assert finding.status == status
        assert all(part in f'{finding.message} {finding.mend}'
                   for part in parts), finding
    Path(file).write_bytes(b'nothing')
    finding = compare_weights([small_net()], file, None, 'key')
    assert finding.status == 'red'
    assert 'cannot be read' in finding.message


def test_compares_the_weights_of_a_config(tiny, tmp_path):
    init_default_scope('mmpretrain')
    model = build_parts(tiny).model
    whole, part = tmp_path / 'whole.pth', tmp_path / 'part.pth'
    torch.save(dict(state_dict=model.state_dict()), whole)
    torch.save(model.head.state_dict(), part)
    torch.save(nn.ModuleDict(dict(head=model.head)).state_dict(),
               tmp_path / 'head.pth')
    # A run goes on with what fits of load_from, and ends if nothing does.
    for file, status in (('whole', 'green'), ('head', 'yellow'),
                         ('part', 'red')):
        [finding] = check_starting_weights(
            model, dict(load_from=str(tmp_path / f'{file}.pth')))
        assert (finding.status, finding.where) == (status, 'load_from')
    # It goes on from the state of this model alone.
    [finding] = check_starting_weights(
        model, dict(load_from=str(tmp_path / 'head.pth'), resume=True))
    assert finding.status == 'red'
    tiny.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=str(whole), prefix='backbone.')
    [finding] = check_starting_weights(build_parts(tiny).model)
    assert (finding.status, finding.where) == (
        'green', 'model.backbone.init_cfg')
    tiny.model.backbone.depth = 34
    [finding] = check_starting_weights(build_parts(tiny).model)
    assert finding.status == 'red'
    assert 'are not in the checkpoint' in finding.message


def test_knows_what_the_load_check_allows(tiny, tmp_path):
    """A guarded module fits if its LoadCheckHook lets it pass, else not."""
    init_default_scope('mmpretrain')
    weights = build_parts(tiny).model.backbone.state_dict()
    weights['fc.bias'] = weights.pop('bn1.bias')
    torch.save(weights, tmp_path / 'backbone.pth')
    tiny.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth'))
    model = build_parts(tiny).model

    def status(**allowed):
        [finding] = check_starting_weights(model, guarded(**allowed))
        return finding.status

    missing = dict(allowed_missing=['*num_batches_tracked', 'bn1.*'])
    assert status() == status(**missing) == 'red'
    assert status(**missing, allowed_unused=['fc.*']) == 'green'
    # Without a guard, what nothing uses is not a harm.
    [finding] = check_starting_weights(model)
    assert 'bn1.bias' in finding.message


def guarded(config=None, **settings):
    """Return settings of a training whose LoadCheckHook has some."""
    return dict(train_cfg=dict(max_epochs=1), **config or {},
                default_hooks=dict(load_check=dict(
                    type='mmmedmask.LoadCheckHook', **settings)))


def test_refuses_what_the_load_check_refuses(tiny, tmp_path):
    """A guarded module needs weights: its own, or those of load_from."""
    init_default_scope('mmpretrain')
    model = build_parts(tiny).model

    def found(**settings):
        return [(one.status, one.where, one.message) for one in
                check_starting_weights(model, guarded(**settings))]

    [(status, where, message)] = found()
    assert (status, where) == ('red', 'default_hooks.load_check')
    assert 'backbone has no checkpoint' in message
    assert found(allow_scratch=True) == []
    [(status, _, message)] = found(modules=['backbon'], allow_scratch=True)
    assert status == 'red'
    assert "no module 'backbon'" in message
    assert list(check_starting_weights(
        model, dict(guarded(), train_cfg=None))) == []
    # All of the backbone has to come from load_from, of the rest a part.
    weights = model.backbone.state_dict(prefix='backbone.')
    file = tmp_path / 'before.pth'
    for lost, statuses in (([], ['green', 'yellow']),
                           (['backbone.bn1.bias'], ['red', 'yellow'])):
        torch.save({name: value for name, value in weights.items()
                    if name not in lost}, file)
        lines = found(config=dict(load_from=str(file)))
        assert [line[:2] for line in lines] == [
            (status, 'load_from') for status in statuses]


def test_refuses_another_grid_as_the_load_check_does(tmp_path):
    def vit(img_size):
        return nn.ModuleDict(dict(backbone=VisionTransformer(
            arch=dict(embed_dims=8, num_layers=1, num_heads=1,
                      feedforward_channels=8),
            patch_size=8, img_size=img_size, init_cfg=dict(
                type='Pretrained', checkpoint=file, prefix='backbone.'))))

    file = str(tmp_path / 'a.pth')
    torch.save(dict(state_dict=vit(64).state_dict(), meta=dict(
        cfg='model = dict(backbone=dict(img_size=64, patch_size=8))')), file)
    for size, status in ((64, 'green'), ((32, 128), 'red')):
        [finding] = check_starting_weights(vit(size), guarded())
        assert finding.status == status
    assert 'are of 8 x 8 patches' in finding.message


def training(**settings):
    """Return a config that trains for 12 epochs, 8 x 2 samples a step."""
    config = dict(train_dataloader=dict(batch_size=2),
                  train_cfg=dict(by_epoch=True, max_epochs=12),
                  optim_wrapper=dict(optimizer=dict(type='SGD', lr=.02)),
                  auto_scale_lr=dict(base_batch_size=16))
    return Config({**config, **settings}, cfg_text='-',
                  filename='net_8xb2-1x_data.py')


@pytest.mark.parametrize(('settings', 'gpus', 'status', 'part'), [
    (dict(), None, 'green', '8 x 2 = 16 samples'),
    (dict(), 1, 'yellow', '--auto-scale-lr would make it 0.0025'),
    (dict(optim_wrapper=dict(optimizer=dict(lr=.02), accumulative_counts=2)),
     4, 'green', '16 in an update by accumulation'),
    (dict(optim_wrapper=dict(optimizer=dict(lr=.02), accumulative_counts=4)),
     8, 'yellow', 'would make it 0.08'),
    (dict(auto_scale_lr=dict(base_batch_size=32, enable=True)), None, 'yellow',
     'is on and makes it 0.01'),
    (dict(auto_scale_lr=None), None, 'yellow', 'does not say for which batch'),
    (dict(train_dataloader=dict(batch_size=4)), None, 'yellow',
     'the name says 2 samples per GPU, the config 4')])
def test_compares_learning_rate_and_batch(settings, gpus, status, part):
    findings = check_batch(training(**settings), gpus)
    assert findings[0].status == status
    assert part in f'{findings[0].message} {findings[0].mend}'


def test_tiles_of_your_own_have_the_rate_of_their_batch():
    """Of one GPU, with which it was measured."""
    for name in ('folder', 'shards'):
        config = load(f'cmim_resnet18_1xb32-coslr-800e_tile-{name}')
        assert texts(check_batch(config, gpus=1)) == []


EPOCHS = dict(by_epoch=True, begin=0, end=12)


@pytest.mark.parametrize(('key', 'value', 'part'), [
    ('train_dataloader.batch_size', 'two', "is 'two', which is str"),
    ('train_dataloader.batch_size', None, 'is None'),
    ('train_cfg.max_epochs', '5', "is '5', which is str"),
    ('optim_wrapper.optimizer.lr', '3e-2', "is '3e-2', which is str"),
    ('auto_scale_lr', dict(base_batch_size='8'), "is '8', which is str"),
    ('param_scheduler', 'cos', "is 'cos', which is str"),
    ('param_scheduler', [dict(type='MultiStepLR', end='9')],
     "param_scheduler.0.end is '9'"),
    ('param_scheduler', [dict(type='LinearLR', end=None)], '0.end is None')])
def test_a_value_of_another_type_is_named(tiny, key, value, part):
    tiny.merge_from_dict({key: value})
    report = check_config(tiny, CheckOptions(run_steps=False))
    finding, = [one for one in report.findings if one.check == 'value']
    assert finding.status == 'red'
    assert part in finding.message


@pytest.mark.parametrize(('schedulers', 'status', 'part'), [
    ([dict(type='MultiStepLR', milestones=[8, 11], **EPOCHS)], 'green',
     '1 schedules fit 12 epochs'),
    ([dict(type='MultiStepLR', milestones=[16, 22], **EPOCHS)], 'red',
     'never gets to its milestones [16, 22]'),
    ([dict(type='MultiStepLR', milestones=[8, 22], **EPOCHS)], 'yellow',
     'never gets to its milestones [22]'),
    ([dict(type='LinearLR', start_factor=.1, end=40)], 'red',
     'the warm-up lasts 40 epochs, and training 12'),
    # 500 iterations are 50 epochs of 10.
    ([dict(type='LinearLR', start_factor=.1, by_epoch=False, end=500)],
     'red', 'the warm-up lasts 500 iterations, and training 120'),
    ([dict(type='CosineAnnealingLR', T_max=100, end=100)], 'yellow',
     'the schedule is cut off'),
    ([dict(type='CosineAnnealingLR', T_max=6, end=12)], 'yellow',
     'rises again'),
    ([dict(type='CosineAnnealingLR', T_max=6, end=6)], 'yellow',
     'the last schedule ends at 6'),
    ([dict(type='CosineAnnealingLR', T_max=6, begin=12, end=18)], 'red',
     'it never starts'),
])
def test_compares_schedules(schedulers, status, part):
    findings = check_schedules(training(param_scheduler=schedulers), 10)
    assert findings[0].status == status, findings
    assert part in findings[0].message


def test_compares_units_of_schedules():
    loop = dict(type='IterBasedTrainLoop', max_iters=100, val_interval=200)
    config = training(train_cfg=loop, val_cfg=dict(),
                      param_scheduler=dict(type='MultiStepLR', milestones=[8]),
                      default_hooks=dict(checkpoint=dict(interval=1)),
                      log_processor=dict(by_epoch=True))
    findings = check_schedules(config)
    assert {finding.where: finding.status for finding in findings} == {
        'param_scheduler.by_epoch': 'red',
        'train_cfg.val_interval': 'yellow',
        'default_hooks.checkpoint.by_epoch': 'red',
        'log_processor.by_epoch': 'yellow'}
    assert 'take no step, or end after one pass' in findings[0].message
    assert findings[0].mend.startswith(
        "dict(type='MultiStepLR', milestones=..., end=100, by_epoch=False)")
    # Without a checkpoint hook the log is compared all the same.
    config.default_hooks = dict(checkpoint=None)
    assert check_schedules(config)[-1].where == 'log_processor.by_epoch'
    # Shards are saved by iterations, in the middle of an epoch.
    for interval, length, is_red in (
            (100, 10, False), (121, 10, True), (121, None, False)):
        config = training(default_hooks=dict(checkpoint=dict(
            by_epoch=False, interval=interval, save_last=False)))
        assert any(finding.status == 'red' for finding in
                   check_schedules(config, length)) == is_red


@pytest.mark.parametrize(('key', 'value', 'where', 'part'), [
    ('model.backbone.depth', 17, 'model.backbone', 'invalid depth 17'),
    ('train_dataloader.dataset.pipeline',
     [dict(type='LoadImageFromFile'), dict(type='RandomFlip', prob='x')],
     'train_dataloader.dataset.pipeline.1', 'prob'),
    ('optim_wrapper.optimizer.lr', -1, 'optim_wrapper',
     'Invalid learning rate'),
    ('custom_hooks', [dict(type='EMAHook'), dict(type='LoggerHook',
                                                  interval=-1)],
     'custom_hooks.1', 'interval')])
def test_names_what_cannot_be_built(tiny, key, value, where, part):
    found, = texts(build_parts(broken(tiny, key, value)).findings, 'red')
    assert found.startswith(where), found
    assert part in found


def test_a_step_is_measured_with_and_without_autocast(tiny, tmp_path):
    """Without, all else is the same."""
    both, plain = (measuring.measure_step(tiny, tmp_path, mixed=mixed)
                   for mixed in (True, False))
    assert 0 < both.mixed.scaling < both.activations.scaling
    assert plain.mixed is None
    assert both.flops == plain.flops > 0
    assert both.samples == plain.samples == 2
    assert both.activations.scaling == plain.activations.scaling


def test_a_teacher_of_the_true_model_has_its_size(tmp_path, monkeypatch):
    """Whose weights are random; a config does not tell the size of a CLIP."""
    written = []
    monkeypatch.setattr('mmmedmask.shrinking.drawn_data.write_clip',
                        lambda path, *size: written.append((path, *size)))
    config = load_config(
        CONFIGS / 'baselines/cmim/eva_vit-small-p16_8xb32-coslr-800e_nct.py')
    full = full_size_config(config, tmp_path)
    path, *size = written[0]
    assert size == [512, 768, 12]
    assert full.model.target_generator.teacher.tokenizer_path == str(path)


def test_a_step_of_the_true_model_is_behind_its_warm_up(tmp_path):
    full = full_size_config(load_config(
        CONFIGS / 'baselines/cmim/small/'
        'concl_resnet18_1xb32-coslr-30e_he-tiles.py'), tmp_path)
    assert full.model.warm_up_epochs < full.train_cfg.max_epochs == 1


def test_fused_attention_counts():
    """Two products forward; four and the scores again backward."""
    parts = [torch.randn(2, 4, 100, 16, requires_grad=True) for _ in range(3)]
    product = 2 * 2 * 4 * 100 * 100 * 16
    with FlopCounterMode(
            display=False,
            custom_mapping=measuring.ATTENTION_FORMULAS) as counter:
        mixed = F.scaled_dot_product_attention(*parts)
        assert counter.get_total_flops() == 2 * product
        mixed.sum().backward()
    assert counter.get_total_flops() == (2 + 5) * product


@pytest.mark.parametrize(('settings', 'number'), [
    (dict(type='mmmedmask.NCTCRC', data_root='x'), 80_000),
    (dict(type='mmmedmask.NCTCRC', data_root='x', ann_file='few.txt'), None),
    (dict(type='mmmedmask.NCTCRC', data_root='x', indices=9), None),
    (dict(data_root='a/busi/', split_folder='splits/paper'), 547),
    (dict(data_root='a/busi/', split_folder='splits/paper', split='val'),
     None),
    (dict(data_root='a/busi/', split_folder='splits/grouped'), None),
    (dict(data_root='other', ann_file='cohort.csv'), None),
    (dict(data_root=['busi']), None)])
def test_published_numbers_of_samples(settings, number):
    config = Config(dict(train_dataloader=dict(dataset=settings)))
    assert costs.number_of_samples(config, None) == number
    assert costs.number_of_samples(config, [1, 2, 3]) == 3


def test_memory_is_that_counted_by_hand():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    model[2].bias.requires_grad_(False)
    with measuring.count_activations(model) as activations:
        model(torch.ones(3, 4)).sum()
    # The input of each layer; ReLU keeps its output, the second's input.
    assert activations.scaling == 4 * (3 * 4 + 3 * 8)
    assert activations.constant == 0
    with torch.autocast('cpu', dtype=torch.bfloat16), \
            measuring.count_activations(model) as mixed:
        model(torch.ones(3, 4)).sum()
    assert mixed.scaling == 2 * (3 * 4 + 3 * 8)
    # The cast weight of the second layer; the input needs no gradient.
    assert mixed.constant == 2 * 8 * 2
    wrapper = type('Wrapper', (), dict(optimizer=torch.optim.AdamW(
        model.parameters())))
    fixed = measuring.fixed_memory(model, wrapper)
    trained = 4 * 8 + 8 + 8 * 2
    assert fixed.parameters == 4 * (trained + 2)
    assert fixed.gradients == 4 * trained
    # Two moments of each value, and a counter of each of three tensors.
    assert fixed.optimizer == 4 * (2 * trained + 3)
    assert fixed.buffers == 0
    assert measuring.scaled_memory(fixed, activations, 3, 6) == (
        4 * (trained + 2) + 4 * trained + 4 * (2 * trained + 3) + 2 * 144)


@pytest.mark.parametrize('settings', [
    dict(type='SGD', lr=.1), dict(type='SGD', lr=.1, momentum=.9),
    dict(type='Adam', lr=.1, amsgrad=True), dict(type='AdamW', lr=.1),
    dict(type='RMSprop', lr=.1, centered=True), dict(type='Lamb', lr=.1),
    dict(type='LARS', lr=.1, momentum=.9)])
def test_state_of_the_optimizer_is_that_of_a_step(settings):
    init_default_scope('mmpretrain')
    assert MMPRETRAIN_OPTIMIZERS.get(settings['type']) is not None
    model = small_net()
    optimizer = OPTIMIZERS.build({**settings, 'params': model.parameters()})
    expected = measuring.optimizer_state(optimizer)
    assert not optimizer.state
    model(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    real = sum(value.numel() * value.element_size()
               for state in optimizer.state.values()
               for value in state.values() if torch.is_tensor(value))
    assert expected == real


def test_length_of_a_run():
    assert costs.run_length(
        training(), 100, 8) == costs.Length(12 * 7, 12 * 100)
    drop = training(train_dataloader=dict(batch_size=2, drop_last=True))
    assert costs.run_length(drop, 100, 8) == costs.Length(12 * 6, 12 * 96)
    balanced = training(train_dataloader=dict(batch_size=2, batch_sampler=dict(
        type='mmmedmask.ClassBalancedBatchSampler')))
    assert costs.run_length(balanced, 100, 8).iterations == 12 * 6
    assert costs.run_length(training(), None, 8) is None
    loop = training(train_cfg=dict(type='IterBasedTrainLoop', max_iters=50))
    assert costs.run_length(loop, None, 8).samples == 50 * 16


@pytest.mark.parametrize('drop_last', [True, False])
@pytest.mark.parametrize('samples', [3, 31, 32, 33, 127])
def test_length_of_an_epoch_is_that_of_the_loader(samples, drop_last,
                                                  monkeypatch):
    """Of 4 processes, which get as many samples each."""
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info',
                        lambda: (0, 4))
    data = range(samples)
    loader = DataLoader(data, batch_size=2, drop_last=drop_last,
                        sampler=DefaultSampler(data, seed=0))
    config = training(train_dataloader=dict(batch_size=2,
                                            drop_last=drop_last))
    assert costs.epoch_length(config, samples, 4) == len(loader)


def test_schedules_count_epochs_as_the_run_does(tiny):
    """8 images in batches of 3 are 3 iterations."""
    tiny.train_dataloader.batch_size = 3
    tiny.param_scheduler = dict(type='MultiStepLR', milestones=[5],
                                by_epoch=False)
    report = check_config(tiny, CheckOptions(run_steps=False))
    assert report.numbers['length']['iterations'] == 2 * 3
    assert not any('milestones' in text for text in texts(report.findings))
    tiny.train_dataloader.update(batch_size=9, drop_last=True)
    report = check_config(tiny, CheckOptions(run_steps=False))
    assert any('fill no batch of 9' in text
               for text in texts(report.findings, 'red'))


def test_free_space_is_that_of_the_checkpoints(tmp_path, monkeypatch):
    """On whatever disk their folder is, or will be."""
    free = {Path.cwd(): 1, tmp_path: 2}
    monkeypatch.setattr(costs.shutil, 'disk_usage', lambda place:
                        SimpleNamespace(free=free[place]))
    run = training(work_dir=str(tmp_path / 'new/run'))
    assert costs.free_space(run) == 2
    for out_dir, expected in (('.', 1), ('s3://bucket', None)):
        run.default_hooks = dict(checkpoint=dict(out_dir=out_dir))
        assert costs.free_space(run) == expected


def test_disk_of_a_run():
    fixed = measuring.FixedMemory(2**30, 0, 2**30, 2**31)
    config = training(default_hooks=dict(checkpoint=dict(
        interval=3, max_keep_ckpts=2, save_best='auto')))
    [finding] = costs.report_disk(config, fixed, free=2**40)
    assert '3 checkpoints of 3.00 GiB, 9.00 GiB in all' in finding.message
    [finding] = costs.report_disk(config, fixed, free=2**30)
    assert finding.status == 'yellow'
    for hook, number in (
            (dict(interval=5), 3), (dict(interval=5, save_last=False), 2),
            (dict(interval=20, save_last=False), 0), (dict(), 1),
            (dict(interval=50, by_epoch=False), 12 * 10 // 50 + 1)):
        config.default_hooks.checkpoint = hook
        [finding] = costs.report_disk(config, fixed, None, epoch_length=10)
        assert finding.message.startswith(f'{number} checkpoints'), hook
    # Of an unknown number of iterations.
    assert list(costs.report_disk(config, fixed, None)) == []
    config.default_hooks.checkpoint.max_keep_ckpts = 2
    [finding] = costs.report_disk(config, fixed, None)
    assert finding.message.startswith('2 checkpoints')
    assert costs.format_bytes(5 * 2**20) == '5.0 MiB'
    assert costs.format_seconds(5400) == '90.0 minutes'


test_refuses_bad_options = refuses(CheckOptions, [
    (dict(gpus=0), 'gpus must be positive, got 0'),
    (dict(steps=-1), 'steps must be positive, got -1'),
    (dict(time_limit=-1), 'time_limit must be at least 0, got -1')])


@pytest.mark.slow
@pytest.mark.parametrize('name', [
    'msmae_vit-micro-p8_1xb16-12e_lesion-phantoms',
    'mask-rcnn_cmim-resnet18-fpn_1xb4-100i_gland-phantoms',
    'setr-pup_scratch-vit-mini-p8_1xb8-60e_busi',
    'groupmsa-micro_1xb16-12e_cohort-phantoms'])
def test_whole_check_of_a_config_of_each_host(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = check_config(read(name), CheckOptions(tflops=10))
    # Nothing is wrong but that there are no data in an empty folder.
    assert {finding.check for finding in report.findings
            if finding.status == 'red'} == {'path'}
    step = report.numbers['step']
    assert min(step['flops'], step['activations'], step['seconds']) > 0
    assert step['source'].startswith('drawn')
    [trial] = [finding for finding in report.findings
               if finding.check == 'step']
    assert trial.status == 'green'
    assert 'reduced model, drawn data: ' in trial.message
    assert 'training steps, loss ' in trial.message
    # Nothing is left in the folder that the tool was called from.
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_true_data_and_true_model(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = check_config(tiny, CheckOptions(full_size=True, gpus=2))
    assert texts(report.findings, 'red') == []
    shown = ' '.join(finding.message for finding in report.findings)
    assert '8 train samples, the first two in a batch' in shown
    assert 'true model, true data: 2 training steps' in shown
    assert 'validated (accuracy/top1' in shown
    # 8 images are an epoch of one step of two GPUs; there are 2 epochs.
    assert report.numbers['length'] == dict(iterations=2, samples=16)


def test_tool_reports_and_exits(tiny_classification, tmp_path):
    file, tool = tmp_path / 'report.json', 'misc/check_config.py'
    output = call(tool, tiny_classification, '--no-step', '--json', file)
    assert '[ok  ] model' in output
    assert output.splitlines()[-1].endswith(' 0 red')
    assert '\033' not in output
    written = json.loads(file.read_text())
    assert written['status'] in ('green', 'yellow')
    assert written['numbers']['memory']['parameters'] > 0
    assert ('[FAIL] key           model.backbone.depht: ResNet takes no'
            ) in call(tool, tiny_classification, '--no-step', '--json', file,
                      '--cfg-options', 'model.backbone.depht=3', status=1)
    assert json.loads(file.read_text())['status'] == 'red'
    bad = tmp_path / 'bad.py'
    bad.write_text('model = dict(\n')
    assert '[FAIL] config' in call(tool, bad, status=1)
