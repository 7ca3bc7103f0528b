"""MMEngine's launchers train on CPU, and as one process with all the data."""

import os
import subprocess
import sys

import pytest
import torch
from mmengine.runner import Runner

from mmmedmask.compat import cpu_distributed

SCRIPT = """
import logging
import sys

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.runner import Runner

from mmmedmask.compat.cpu_distributed import enable_cpu_distributed

work_dir, launcher, batch_size = sys.argv[1:]


class Line(BaseModel):

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 1)

    def forward(self, inputs, mode):
        return dict(loss=(self.linear(inputs) - 1).square().mean())


torch.manual_seed(0)
set_device = torch.cuda.set_device
assert enable_cpu_distributed()
assert enable_cpu_distributed()  # again changes nothing
generator = torch.Generator().manual_seed(0)
data = [dict(inputs=torch.randn(3, generator=generator)) for _ in range(8)]
runner = Runner(
    model=Line(),
    work_dir=work_dir,
    launcher=launcher,
    train_dataloader=dict(
        dataset=data, batch_size=int(batch_size), num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate')),
    train_cfg=dict(by_epoch=True, max_epochs=2),
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
    randomness=dict(seed=0),
    env_cfg=dict(dist_cfg=dict(backend='nccl')),
    default_hooks=dict(checkpoint=None),
    cfg=dict(sync_bn='torch'))
assert torch.distributed.get_backend() == 'gloo'
assert torch.cuda.set_device is set_device
assert isinstance(runner.model, MMDistributedDataParallel)
assert not runner.model.find_unused_parameters
runner.train()
torch.save(runner.model.module.state_dict(),
           f'{work_dir}/{get_world_size()}_{get_rank()}.pth')

with_batch_norm = torch.nn.Sequential(
    torch.nn.Linear(3, 2), torch.nn.SyncBatchNorm(2))
wrapped = runner.wrap_model(dict(find_unused_parameters=True),
                            with_batch_norm)
assert type(wrapped) is MMDistributedDataParallel
assert wrapped.find_unused_parameters
assert not isinstance(wrapped.module[1], torch.nn.SyncBatchNorm)
wrapped(torch.randn(4, 3)).sum().backward()
assert runner.wrap_model(None, wrapped) is wrapped
torch.distributed.destroy_process_group()
"""


def run_script(tmp_path, command, launcher, batch_size, **environment):
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)
    result = subprocess.run(
        [sys.executable, *command, script, tmp_path, launcher,
         str(batch_size)],
        env={**os.environ, 'CUDA_VISIBLE_DEVICES': '', **environment},
        capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


@pytest.mark.slow
def test_two_processes_equal_one_with_all_the_data(tmp_path):
    log = run_script(
        tmp_path,
        ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2'],
        'pytorch', 2)
    assert '2 processes train on CPU with gloo' in log
    assert 'SyncBatchNorm does not run on CPU' in log
    # Slurm, too, starts processes where there is no GPU.
    run_script(
        tmp_path, [], 'slurm', 4, SLURM_PROCID='0', SLURM_NTASKS='1',
        SLURM_LOCALID='0', SLURM_NODELIST='localhost',
        MASTER_ADDR='localhost', MASTER_PORT='0')
    first, second, alone = (
        torch.load(tmp_path / f'{name}.pth', weights_only=True)
        for name in ('2_0', '2_1', '1_0'))
    for key, value in alone.items():
        assert torch.equal(first[key], second[key])
        torch.testing.assert_close(first[key], value)


def test_nothing_changes_beside_an_accelerator(monkeypatch):
    monkeypatch.setattr(cpu_distributed, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(Runner, 'wrap_model', Runner.wrap_model)
    before = Runner.wrap_model
    assert cpu_distributed.enable_cpu_distributed() is False
    assert Runner.wrap_model is before


@pytest.mark.parametrize('name', cpu_distributed.INITIALIZERS)
def test_initializers_are_those_of_mmengine(name):
    # They are private: a new MMEngine may rename them.
    assert callable(getattr(cpu_distributed.dist_utils, name))
