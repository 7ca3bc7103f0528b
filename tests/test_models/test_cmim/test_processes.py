"""CMIM in processes of its own: two at once, and one that is killed.

Check 11 (several processes train as one with all the data); a run that goes
on after kill -9 is the run that was never interrupted.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from .tiny import draw_tile

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]

TRAIN_STEPS = """
import sys

import torch
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

sys.path.insert(0, sys.argv[1])
from test_cmim.tiny import batch, tiny_model

folder, rank, size, sync_weight = sys.argv[2:]
rank, size = int(rank), int(size)
store = f'file://{folder}/store_{size}_{sync_weight}'
torch.distributed.init_process_group(
    'gloo', init_method=store, rank=rank, world_size=size)
model = tiny_model(
    backbone=dict(norm_cfg=dict(type='GN', num_groups=4)),
    data_preprocessor=dict(color=dict(), views=dict(scale=(.2, .5))),
    head=dict(sync_weight=sync_weight == 'True'))
model = MMDistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=.05, momentum=.9)
wrapper = OptimWrapper(optimizer=optimizer)
for step in range(3):
    MessageHub.get_current_instance().update_info('iter', step)
    samples = range(6 * step, 6 * step + 6)
    model.train_step(batch(samples[rank::size]), wrapper)
torch.save(model.module.state_dict(),
           f'{folder}/{size}_{rank}_{sync_weight}.pth')
torch.distributed.destroy_process_group()
"""

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


def run(folder, commands):
    """Run scripts; return their exit statuses and all that they printed."""
    commands = json.dumps(
        [[[str(part) for part in command] for command in group]
         for group in commands])
    environment = {
        **os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1',
        'PYTHONPATH': os.pathsep.join([str(folder), str(REPOSITORY)])
    }
    result = subprocess.run(
        [sys.executable, HERE / 'forked_runs.py', commands],
        capture_output=True, text=True, check=False, env=environment,
        cwd=folder)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    return json.loads(result.stdout.splitlines()[-1]), output


@pytest.mark.slow
def test_two_processes_train_as_one_with_both_batches(tmp_path):
    """Check 11: the same weights after three steps, up to rounding."""
    script = tmp_path / 'train_steps.py'
    script.write_text(TRAIN_STEPS)

    def command(rank, size, sync_weight):
        return script, HERE.parent, tmp_path, rank, size, sync_weight

    statuses, output = run(tmp_path, [
        [command(0, 1, True)],
        [command(0, 2, True), command(1, 2, True)],
        [command(0, 2, False), command(1, 2, False)],
    ])
    assert statuses == [[0], [0, 0], [0, 0]], output
    alone, first, second, unsynced = (
        torch.load(tmp_path / f'{name}.pth', weights_only=True)
        for name in ('1_0_True', '2_0_True', '2_1_True', '2_0_False'))

    def distance(one, other):
        return max(float((one[key] - other[key]).abs().max())
                   for key in one)

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
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path):
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

    def command(config, work_dir):
        return (REPOSITORY / 'tools' / 'train.py', tmp_path / config,
                '--work-dir', tmp_path / work_dir, '--resume', 'auto')

    statuses, output = run(tmp_path, [
        [command('run.py', 'whole')],
        [command('killed_run.py', 'parts')],
        # The folder of a start is named by the second, so later.
        [command('run.py', 'parts')],
    ])
    assert statuses == [[0], [-signal.SIGKILL], [0]], output

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
