"""CMIM in processes of its own: two at once, and one that is killed.

Check 11 (several processes train as one with all the data); a run that goes
on after kill -9 is the run that was never interrupted.
"""

import json
import signal
import time

import pytest
import torch
from commands import call
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from PIL import Image
from processes import run_ranks

from .tiny import batch, draw_tile, tiny_model

CONFIG = """
_base_ = 'mmmedmask::_base_/default_runtime.py'
custom_imports = dict(imports=['mmmedmask', 'kill_hook'],
                      allow_failed_imports=False)
epochs = 4
model = dict(
    type='mmmedmask.CMIM',
    data_preprocessor=dict(
        type='mmmedmask.CMIMDataPreprocessor', view_size=64, patch_size=16,
        color=dict()),
    backbone=dict(
        type='mmmedmask.CMIMResNet', depth=18, stem_channels=8,
        base_channels=8, zero_init_residual=False),
    neck=dict(
        type='mmmedmask.CMIMNeck', embed_dims=16, num_heads=4,
        out_stride=16),
    head=dict(type='mmmedmask.CMIMHead', patch_size=16))
train_dataloader = dict(
    batch_size=4, num_workers=0, drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='mmmedmask.TileFolder', data_root=DATA, pipeline=[
            dict(type='mmmedmask.LoadTile'),
            dict(type='mmmedmask.PackTile')]))
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=.05, momentum=.9, weight_decay=1e-4))
param_scheduler = [dict(
    type='CosineAnnealingLR', T_max=epochs, end=epochs, eta_min=0.,
    by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs)
default_hooks = dict(logger=dict(interval=1))
log_processor = dict(window_size=1)
custom_hooks = HOOKS
"""

KILL_HOOK = """
import os
import signal

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class KillHook(Hook):
    '''Ends the process in the middle of the third epoch.'''

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.epoch == 2 and batch_idx == 1:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def train_steps(path, rank, size, sync_weight):
    """Three steps as one of ``size`` ranks; save the weights."""
    model = MMDistributedDataParallel(tiny_model(
        backbone=dict(norm_cfg=dict(type='GN', num_groups=4)),
        data_preprocessor=dict(color=dict(), views=dict(scale=(.2, .5))),
        head=dict(sync_weight=sync_weight)))
    wrapper = OptimWrapper(optimizer=torch.optim.SGD(
        model.parameters(), lr=.05, momentum=.9))
    for step in range(3):
        MessageHub.get_current_instance().update_info('iter', step)
        samples = range(6 * step, 6 * step + 6)
        model.train_step(batch(samples[rank::size]), wrapper)
    torch.save(model.module.state_dict(), path)


@pytest.mark.slow
def test_two_processes_train_as_one_with_both_batches(tmp_path):
    """Check 11: the same weights after three steps, up to rounding."""
    for size, sync_weight in ((1, True), (2, True), (2, False)):
        folder = tmp_path / f'{size}_{sync_weight}'
        folder.mkdir()
        run_ranks(
            lambda rank, folder=folder, size=size, sync=sync_weight:
            train_steps(folder / f'{rank}.pth', rank, size, sync),
            folder, size)
    alone, first, second, unsynced = (
        torch.load(tmp_path / f'{name}.pth', weights_only=True)
        for name in ('1_True/0', '2_True/0', '2_True/1', '2_False/0'))

    def distance(one, other):
        return max(float((one[key] - other[key]).abs().max()) for key in one)

    assert distance(first, second) == 0
    assert distance(first, alone) < 2e-6
    # Without sync_weight the processes' shares of target pixels, which
    # differ, weigh the samples.
    assert distance(unsynced, alone) > 1e-4


def read_losses(work_dir):
    """Loss by step, of every start of a run, in order."""
    runs = []
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        rows = map(json.loads, file.read_text().splitlines())
        runs.append({row['step']: (row['loss'], row['lr'])
                     for row in rows if 'loss' in row})
    return runs


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    tiles = tmp_path / 'tiles'
    tiles.mkdir()
    for index in range(8):
        Image.fromarray(draw_tile(index, (64, 80)).permute(
            1, 2, 0).numpy()).save(tiles / f'{index}.png')
    (tmp_path / 'kill_hook.py').write_text(KILL_HOOK)
    for name, hooks in (('run.py', '[]'),
                        ('killed_run.py', "[dict(type='KillHook')]")):
        (tmp_path / name).write_text(
            CONFIG.replace('DATA', repr(str(tiles))).replace('HOOKS', hooks))

    def train(config, work_dir, status=0):
        call('train.py', tmp_path / config, '--work-dir', tmp_path / work_dir,
             '--resume', 'auto', status=status, fork=True)

    monkeypatch.syspath_prepend(tmp_path)
    train('killed_run.py', 'parts', -signal.SIGKILL)
    train('run.py', 'whole')
    # The folder of a start is named by the second.
    time.sleep(1)
    train('run.py', 'parts')

    whole, = read_losses(tmp_path / 'whole')
    before, after = read_losses(tmp_path / 'parts')
    assert list(whole) == list(range(1, 9))
    assert list(before) == [1, 2, 3, 4, 5]
    assert list(after) == [5, 6, 7, 8]
    assert len({loss for loss, _ in whole.values()}) == 8
    for part in (before, after):
        for step, values in part.items():
            assert values == whole[step], step
    one, other = (
        torch.load(tmp_path / name / 'epoch_4.pth', weights_only=False)
        for name in ('whole', 'parts'))
    for key, value in one['state_dict'].items():
        assert torch.equal(value, other['state_dict'][key]), key
