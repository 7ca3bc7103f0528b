"""What the command-line tools do to a config before it runs."""

import os
import signal
from contextlib import nullcontext

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import LinearLR
from mmengine.runner import Runner
from processes import run_forked

from mmmedmask import apis, config_files
from mmmedmask.apis import runs
from mmmedmask.registry import HOOKS


@pytest.fixture
def config_file(tmp_path):
    file = tmp_path / 'some_config.py'
    file.write_text("default_scope = 'mmpretrain'\n"
                    'base_lr = 0.1\n'
                    'optim_wrapper = dict(optimizer=dict(lr=base_lr))\n')
    return file


def test_options_override_nested_settings(config_file):
    config = apis.load_config(config_file, {'optim_wrapper.optimizer.lr': 0.2,
                                            'train_cfg.max_epochs': 3})
    assert config.optim_wrapper.optimizer.lr == 0.2
    assert config.train_cfg.max_epochs == 3


@pytest.mark.parametrize(('option', 'reason'), [
    ('base_lr', "'base_lr' is a plain variable"),
    ('train_dataloadr.batch_size', 'Did you mean train_dataloader'),
    ('qqq', "'qqq' is nothing that a runner reads")])
def test_options_without_effect_are_refused(config_file, option, reason):
    with pytest.raises(ValueError, match=reason):
        apis.load_config(config_file, {option: 1})


def test_missing_config_lists_similar_ones(tmp_path, monkeypatch):
    folder = tmp_path / 'configs'
    (folder / 'cmim').mkdir(parents=True)
    (folder / 'cmim' / 'cmim_resnet18_nct.py').touch()
    monkeypatch.setattr(config_files, 'find_config_folder', lambda: folder)
    with pytest.raises(FileNotFoundError,
                       match=r"'cmim_resnet19_nct.py' does not exist .* "
                       r'cmim/cmim_resnet18_nct\.py$'):
        apis.load_config('cmim_resnet19_nct.py')


def test_work_dir(config_file):
    config = apis.load_config(config_file)
    for given, expected in ((None, 'work_dirs/some_config'), ('a', 'a'),
                            (None, 'a'), ('b', 'b')):
        apis.set_work_dir(config, given)
        assert config.work_dir == expected


@pytest.mark.parametrize(('written', 'resumed'), [
    (None, None),
    ('{folder}/epoch_2.pth', True),
    # The folder has moved since.
    ('old/place/epoch_2.pth', True),
])
def test_auto_resume(tmp_path, written, resumed):
    """Without a checkpoint the run starts with its pre-trained weights."""
    (tmp_path / 'epoch_2.pth').touch()
    if written:
        (tmp_path / 'last_checkpoint').write_text(
            written.format(folder=tmp_path))
    config = Config(dict(work_dir=str(tmp_path), load_from='weights.pth',
                         resume=not resumed))
    apis.set_resume(config, 'auto')
    assert config.resume is bool(resumed)
    assert config.load_from == (
        str(tmp_path / 'epoch_2.pth') if resumed else 'weights.pth')


@pytest.mark.parametrize('resume', ['auto', 'absent.pth'])
def test_resume_from_nothing_is_an_error(tmp_path, resume):
    (tmp_path / 'last_checkpoint').write_text('absent.pth')
    with pytest.raises(FileNotFoundError, match='absent.pth'):
        apis.set_resume(Config(dict(work_dir=str(tmp_path))), resume)


def test_one_training_in_a_work_dir(tmp_path, monkeypatch):
    """The other one is named; further ranks of one training are let in."""
    def other():
        with pytest.raises(ValueError, match=rf'another training is in .* '
                           rf'\(process {os.getppid()} on .* since 20'), \
                apis.lock_work_dir(str(tmp_path)):
            pass
        monkeypatch.setenv('RANK', '1')
        with apis.lock_work_dir(str(tmp_path), 'pytorch'):
            pass

    def killed():
        with apis.lock_work_dir(str(tmp_path)):
            os.kill(os.getpid(), signal.SIGKILL)

    with apis.lock_work_dir(str(tmp_path)):
        assert run_forked(other) == [0]
    assert run_forked(killed) == [-signal.SIGKILL]
    with apis.lock_work_dir(str(tmp_path)):
        pass


COSINE = 'CosineAnnealingLR'


@pytest.mark.parametrize(('length', 'epoch_length', 'schedules', 'message'), [
    (dict(max_epochs=2), None, [
        dict(type='LinearLR', end=5, convert_to_iter_based=True),
        dict(type=COSINE, begin=5)],
     r'0: the warm-up lasts 5 epochs, and training 2.*\n.*1: Cos.* begins at '
     r'5.*\n--cfg-options param_scheduler.0.end=1 param_scheduler.1.begin=1$'),
    # What stands before one that begins too late moves with it.
    (dict(max_epochs=5), None, [
        dict(type='LinearLR', end=5, convert_to_iter_based=True),
        dict(type=COSINE, begin=5, end=9),
        dict(type=COSINE, by_epoch=False, begin=5)],
     r'param_scheduler.1.begin=1 param_scheduler.0.end=1\n.*1 counts epochs, '
     'param_scheduler.2 counts iterations$'),
    (dict(max_iters=400), None, [
        dict(type='LinearLR', end=500, by_epoch=False),
        dict(type='MultiStepLR', milestones=[900], by_epoch=False)],
     r'lasts 500 iterations, and training 400.*\n.*param_scheduler.0.end=40$'),
    (dict(max_epochs=100), 2, [
        dict(type='LinearLR', end=201, by_epoch=False),
        dict(type=COSINE, convert_to_iter_based=True)],
     r'201 iterations, and training 200.*\n.*0.end=20\nparam_scheduler.0 '
     'counts iterations, param_scheduler.1 counts epochs$'),
    # One warm-up in two units.
    (dict(max_epochs=4), 2, [
        dict(type='ConstantLR', end=4, by_epoch=False),
        dict(type=COSINE, begin=4)],
     r'1: .*begins at 4, and training ends after 4 epochs.*\n.*1.begin=1\n'
     'param_scheduler.0 counts iterations, param_scheduler.1 counts epochs$'),
    # One epoch of a warm-up has its first rate alone, and keeps it.
    (dict(max_epochs=1), None, dict(type='LinearLR', end=1),
     '--cfg-options param_scheduler=None$'),
    (dict(max_epochs=2), None, [dict(type='LinearLR', end=5),
                                dict(type=COSINE, begin=5)],
     '--cfg-options param_scheduler=None$'),
    (dict(max_epochs=9), None, [dict(type='LinearLR', end=1),
                                dict(type=COSINE, begin=1)],
     'a warm-up of 1 epoch .* or leave it out\n--cfg-options '
     'param_scheduler.0.end=2 param_scheduler.1.begin=2$'),
    # A number after the name of the one scheduler would break the config.
    (dict(max_epochs=10), None, dict(type='LinearLR', end=20),
     '^param_scheduler: .*\n--cfg-options param_scheduler.end=2$'),
    # The last epoch has the full rate.
    (dict(max_epochs=10), None, dict(type='LinearLR', end=10), None),
    (dict(max_epochs=10), None,
     dict(type='LinearMomentum', end=20, start_factor=.8), None),
    (dict(max_iters=400), None, [
        dict(type='LinearLR', end=1, convert_to_iter_based=True),
        dict(type=COSINE, begin=1, convert_to_iter_based=True)],
     r'iterations, and param_scheduler.1 counts epochs: .*one pass .*\n'
     r"param_scheduler.1: dict\(type='CosineAnnealingLR', begin=\.\.\., "
     r'end=400, by_epoch=False\)$'),
    (dict(max_iters=400), None, dict(type='StepLR', step_size=2, end=9),
     r'step_size=\.\.\., end=\.\.\., by_epoch=False\)$'),
    (dict(max_iters=400), None,
     dict(type='ReduceOnPlateauLR', monitor='a'), None),
    (dict(max_epochs=6), None, [dict(type='LinearLR', end=5),
                                dict(type=COSINE, begin=5)], None),
    (dict(max_epochs=2), None,
     dict(type='ConstantLR', by_epoch=False, begin=9), None),
    (dict(max_epochs=2), 5,
     dict(type='ConstantLR', by_epoch=False, begin=9), None),
    (None, None, dict(type=COSINE, begin=5), None),
    (dict(max_epochs=9), None, dict(type='LinearLR', end=None),
     '^param_scheduler.end is None: it must be a number$'),
    (dict(max_epochs=9), None, dict(type=COSINE, T_max=None), None),
])
def test_a_run_that_ends_in_its_warmup(length, epoch_length, schedules,
                                       message):
    config = Config(dict(train_cfg=length, param_scheduler=schedules))
    with nullcontext() if message is None else pytest.raises(
            ValueError, match=f'(?s){message}'):
        apis.check_warmup(config, epoch_length)


def test_a_warmup_in_iterations_is_looked_at_with_the_data(
        tiny_classification, tmp_path):
    """Two epochs of 8 images, 4 at a time, are 4 iterations."""
    def check(end):
        config = apis.load_config(tiny_classification, {
            'work_dir': str(tmp_path), 'param_scheduler': dict(
                type='LinearLR', end=end, by_epoch=False)})
        apis.check_iterations(apis.build_runner(config))

    check(4)
    with pytest.raises(ValueError, match='lasts 5 iterations, and training 4'):
        check(5)


@pytest.mark.parametrize(('end', 'rate'), [(1, .1), (2, 1), (6, 1)])
def test_a_warmup_has_the_full_rate_in_its_last_step(end, rate):
    """What check_warmup relies on in MMEngine."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.)
    schedule = LinearLR(optimizer, start_factor=.1, end=end)
    for _ in range(end - 1):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]['lr'] == pytest.approx(rate)


def test_mixed_precision(monkeypatch):
    monkeypatch.setattr(runs, 'get_device', lambda: 'cuda')
    config = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD'))))
    apis.set_mixed_precision(config)
    float16 = dict(type='AmpOptimWrapper', dtype='float16',
                   loss_scale='dynamic', optimizer=dict(type='SGD'))
    assert config.optim_wrapper == float16
    bfloat16 = dict(
        type='mmmedmask.Bfloat16OptimWrapper', optimizer=dict(type='SGD'))
    apis.set_mixed_precision(config, 'bfloat16')
    assert config.optim_wrapper == bfloat16
    # A config that has autocast keeps its own, unless told otherwise.
    apis.set_mixed_precision(config)
    assert config.optim_wrapper == bfloat16
    apis.set_mixed_precision(config, 'float16')
    assert config.optim_wrapper == float16


@pytest.mark.parametrize(('device', 'dtype', 'wrapper', 'reason'), [
    ('cpu', 'float16', 'OptimWrapper', 'float16 needs a GPU'),
    ('cpu', None, 'OptimWrapper', 'float16 needs a GPU'),
    ('cuda', 'int8', 'OptimWrapper', "'int8', valid are"),
    ('cuda', 'float16', 'ApexOptimWrapper', "is 'ApexOptimWrapper'")])
def test_mixed_precision_refuses(monkeypatch, device, dtype, wrapper, reason):
    monkeypatch.setattr(runs, 'get_device', lambda: device)
    config = Config(dict(optim_wrapper=dict(type=wrapper)))
    with pytest.raises(ValueError, match=reason):
        apis.set_mixed_precision(config, dtype)


@pytest.mark.parametrize(('device', 'dtype'), [
    ('cpu', 'bfloat16'),
    pytest.param('cuda', 'bfloat16', marks=pytest.mark.gpu),
    pytest.param('cuda', 'float16', marks=pytest.mark.gpu)])
def test_mixed_precision_steps(device, dtype):
    from mmengine.registry import OPTIM_WRAPPERS
    model = torch.nn.Linear(4, 4).to(device)
    before = model.weight.detach().clone()
    config = Config(dict(optim_wrapper=dict(type='OptimWrapper')))
    apis.set_mixed_precision(config, dtype)
    wrapper = OPTIM_WRAPPERS.build(
        dict(config.optim_wrapper,
             optimizer=torch.optim.SGD(model.parameters(), lr=0.1)))
    with wrapper.optim_context(model):
        output = model(torch.ones(2, 4, device=device))
        assert output.dtype == getattr(torch, dtype)
    wrapper.update_params(output.float().sum())
    # The gradient of each weight is 2, from two samples of ones.
    torch.testing.assert_close(
        model.weight.detach(), before - 0.2, atol=1e-3, rtol=0)


def test_validation_is_left_out():
    config = Config(
        dict(val_cfg=dict(), val_dataloader=dict(), val_evaluator=dict()))
    apis.disable_validation(config)
    assert {config.val_cfg, config.val_dataloader,
            config.val_evaluator} == {None}


def test_lr_scaling_needs_the_batch_it_is_meant_for():
    for scaling in (None, dict(enable=False)):
        with pytest.raises(ValueError, match='base_batch_size'):
            apis.enable_lr_scaling(Config(dict(auto_scale_lr=scaling)))


def test_lr_scaling_counts_accumulated_gradients(tiny_classification,
                                                 tmp_path):
    """Of 4 samples 8 times the rate is that of 32, which it is meant for."""
    config = apis.load_config(tiny_classification, {
        'optim_wrapper.accumulative_counts': 8, 'work_dir': str(tmp_path),
        'train_dataloader.batch_size': 4,
        'auto_scale_lr': dict(base_batch_size=32, enable=True)})
    rate = config.optim_wrapper.optimizer.lr
    runner = apis.build_runner(config)
    wrapper = runner.build_optim_wrapper(config.optim_wrapper)
    runner.scale_lr(wrapper, runner.auto_scale_lr)
    assert wrapper.get_lr()['lr'] == [rate]
    # A dumped config is for the same batch when it trains again.
    assert config.auto_scale_lr.base_batch_size == 32


@pytest.fixture
def tested():
    return Config(dict(
        default_scope='mmdet', model=dict(type='MaskRCNN'), test_cfg=dict(),
        test_evaluator=dict(type='CocoMetric'),
        test_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dict(
            pipeline=[dict(type='LoadImageFromFile')])))))


def test_test_loads_the_checkpoint_safely(tested, tmp_path):
    good, bad = tmp_path / 'good.pth', tmp_path / 'bad.pth'
    torch.save(dict(state_dict=dict(weight=torch.ones(1))), good)
    torch.save(dict(state_dict=dict(), meta=tmp_path), bad)
    apis.prepare_test(tested, str(good))
    assert tested.load_from == str(good)
    with pytest.raises(ValueError, match='bad.pth'):
        apis.prepare_test(tested, str(bad))
    with pytest.raises(FileNotFoundError, match='absent.pth'):
        apis.prepare_test(tested, 'absent.pth')
    tested.test_evaluator = None
    with pytest.raises(ValueError, match='it lacks test_evaluator'):
        apis.prepare_test(tested, str(good))


@pytest.mark.parametrize(('scope', 'dump'), [('mmdet', 'mmdet.DumpDetResults'),
                                             ('mmseg', 'DumpResults')])
def test_predictions_are_dumped(tested, scope, dump):
    tested.default_scope = scope
    apis.save_predictions(tested, 'out.pkl')
    assert tested.test_evaluator == [
        dict(type='CocoMetric'), dict(type=dump, out_file_path='out.pkl')]
    with pytest.raises(ValueError, match='out.json'):
        apis.save_predictions(tested, 'out.json')


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'mmseg'])
def test_predictions_are_drawn(tested, tmp_path, scope):
    tested.default_scope = scope
    tested.visualizer = dict(type='Visualizer')
    hook_type, visualizer_type = runs.DRAWING[scope]
    own = dict(mmpretrain=dict(enable=False, rescale_factor=4),
               mmdet=dict(score_thr=.7, backend_args=None), mmseg={})[scope]
    if own:
        tested.default_hooks = dict(visualization=dict(
            type=f'{scope}.{hook_type}', **own))
    for _ in range(2):
        apis.draw_predictions(tested, str(tmp_path))
        hook = tested.default_hooks.visualization
        assert HOOKS.build(dict(hook)).draw
        assert hook.test_out_dir == str(tmp_path)
        assert hook.get('score_thr') == own.get('score_thr')
        assert hook.options == {
            key: own[key] for key in own if key == 'rescale_factor'}
        assert tested.visualizer.type == visualizer_type


def test_drawing_refuses_what_it_does_not_know(tested, tmp_path):
    tested.default_hooks = dict(visualization=dict(type='MyHook'))
    with pytest.raises(ValueError, match='is a MyHook'):
        apis.draw_predictions(tested, str(tmp_path))
    tested.default_scope = 'mmpose'
    with pytest.raises(ValueError, match="not of 'mmpose'"):
        apis.draw_predictions(tested, str(tmp_path))
    tested.default_scope = 'mmpretrain'
    tested.test_dataloader = dict(dataset=dict(
        type='RepeatDataset', dataset=dict(type='mmmedmask.SlideOmicDataset')))
    with pytest.raises(ValueError, match='are features of slides'):
        apis.draw_predictions(tested, str(tmp_path))


def test_probes_predict_nothing(tested):
    tested.test_cfg = dict(type='mmmedmask.ProbeLoop')
    for ask in (apis.draw_predictions, apis.save_predictions):
        with pytest.raises(ValueError, match='ProbeLoop, which scores'):
            ask(tested, 'out.pkl')


def test_test_time_augmentation(tested):
    with pytest.raises(ValueError, match='lacks tta_model and tta_pipeline'):
        apis.enable_test_time_augmentation(tested)
    tested.tta_model = dict(type='DetTTAModel')
    tested.tta_pipeline = [dict(type='TestTimeAug')]
    apis.enable_test_time_augmentation(tested)
    assert tested.model == dict(
        type='DetTTAModel', module=dict(type='MaskRCNN'))
    dataset = tested.test_dataloader.dataset.dataset
    assert dataset.pipeline == [dict(type='TestTimeAug')]


def test_test_time_augmentation_of_several_data_sets(tested):
    inner = tested.test_dataloader.dataset
    tested.test_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[inner, dict(pipeline=[])])
    tested.tta_model = dict(type='DetTTAModel')
    tested.tta_pipeline = [dict(type='TestTimeAug')]
    apis.enable_test_time_augmentation(tested)
    first, second = tested.test_dataloader.dataset.datasets
    assert first.dataset.pipeline == second.pipeline == tested.tta_pipeline
    del second['pipeline']
    with pytest.raises(ValueError, match='pipeline of the test data set'):
        apis.enable_test_time_augmentation(tested)


@pytest.mark.parametrize(('scales', 'ok'), [
    ([(224, 224)], False), ([64, (128, 128)], True), ([None], True)])
def test_test_time_augmentation_is_of_the_size_of_the_test(tested, scales,
                                                           ok):
    tested.test_dataloader.dataset.dataset.pipeline = [
        dict(type='LoadTile'), dict(type='ResizeImage', scale=128)]
    tested.tta_model = dict(type='SegTTAModel')
    tested.tta_pipeline = [dict(type='TestTimeAug', transforms=[
        [dict(type='mmseg.Resize', scale=scale) for scale in scales]])]
    if ok:
        apis.enable_test_time_augmentation(tested)
        return
    with pytest.raises(ValueError, match=r'to \[\(224, 224\)\], the test '
                       r'pipeline to \[\(128, 128\)\]'):
        apis.enable_test_time_augmentation(tested)


@pytest.mark.parametrize('place', ['model', 'roi_head'])
@pytest.mark.parametrize('tta_model', [None, dict(type='mmdet.DetTTAModel')])
def test_no_test_time_augmentation_of_instance_masks(tested, place,
                                                     tta_model):
    """mmdet would fail in an assertion, after everything is built."""
    head = dict(mask_head=dict(type='FCNMaskHead'))
    tested.model.update(head if place == 'model' else dict(roi_head=head))
    tested.tta_model = tta_model
    with pytest.raises(ValueError, match='no masks, and this MaskRCNN has'):
        apis.enable_test_time_augmentation(tested)


def test_missing_host_library_is_named():
    with pytest.raises(ModuleNotFoundError, match='pip install mmabsent'):
        apis.build_runner(Config(dict(default_scope='mmabsent')))


@pytest.mark.parametrize(('batch_size', 'drop_last', 'ok'), [
    (4, True, False), (4, False, True), (3, True, True)])
def test_an_epoch_without_iterations_is_explained(tmp_path, batch_size,
                                                  drop_last, ok):
    runner = Runner(
        torch.nn.Linear(1, 1), str(tmp_path), train_dataloader=dict(
            batch_size=batch_size, drop_last=drop_last,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=[0, 1, 2]),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        experiment_name=f'iterations {batch_size} {drop_last}')
    with nullcontext() if ok else pytest.raises(
            ValueError, match='no iteration: of 3 samples each of 1 processes '
            'gets 3, which fill no batch of 4, .*drop_last=False'):
        apis.check_iterations(runner)


def test_a_hook_is_switched_off_by_none(tiny_classification, tmp_path):
    """MMEngine itself takes None for its own hooks alone."""
    config = apis.load_config(tiny_classification)
    config.work_dir = str(tmp_path)
    guard = dict(type='mmmedmask.NaNGuardHook')
    for setting, expected in ((guard, 1), (None, 0)):
        config.default_hooks.nan_guard = setting
        hooks = apis.build_runner(config).hooks
        assert sum(type(hook).__name__ == 'NaNGuardHook'
                   for hook in hooks) == expected


@pytest.mark.parametrize(('setting', 'expected'), [
    ('default', 'SafeCheckpointHook'),
    (dict(type='CheckpointHook', interval=3), 'SafeCheckpointHook'),
    (dict(type='CheckpointHook', filename_tmpl='{}.pth'), 'CheckpointHook'),
    (dict(type='CheckpointHook', out_dir='s3://a'), 'CheckpointHook'),
    (dict(type='mmengine.CheckpointHook'), 'CheckpointHook'),
    (None, None)])
def test_mmengines_checkpoint_hook_is_replaced(
        tiny_classification, tmp_path, monkeypatch, setting, expected):
    told = []
    monkeypatch.setattr(runs, 'print_log', lambda *args: told.append(args))
    config = apis.load_config(tiny_classification)
    config.work_dir = str(tmp_path)
    if setting == 'default':
        # MMEngine makes one by itself.
        del config.default_hooks['checkpoint']
    else:
        config.default_hooks.checkpoint = setting
    runs._use_safe_checkpoints(config)
    [message, *_] = [line[0] for line in told] or ['']
    assert ('in the place of CheckpointHook' in message) == (
        expected == 'SafeCheckpointHook')
    assert ('does not take' in message) == (
        len(setting or '') == 2 and expected == 'CheckpointHook')
    hooks = [hook for hook in Runner.from_cfg(config).hooks
             if type(hook).__name__.endswith('CheckpointHook')]
    assert [type(hook).__name__ for hook in hooks] == (
        [expected] if expected else [])
    assert [hook.interval for hook in hooks if setting == 'default'] in (
        [], [1])
