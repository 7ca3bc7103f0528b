"""MMEngine's launchers train on CPU, and as one process with all the data."""

import os
import socket

import pytest
import torch
from mmengine.dist import get_rank
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.runner import Runner
from processes import run_forked

from mmmedmask.compat import cpu_distributed


class Line(BaseModel):
    """Fits a line; what the two processes train."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 1)

    def forward(self, inputs, mode):
        return dict(loss=(self.linear(inputs) - 1).square().mean())


def train_as_rank(work_dir):
    """Train as one of two processes that a launcher has started."""
    torch.manual_seed(0)
    set_device = torch.cuda.set_device
    assert cpu_distributed.enable_cpu_distributed()
    assert cpu_distributed.enable_cpu_distributed()  # again changes nothing
    generator = torch.Generator().manual_seed(0)
    data = [dict(inputs=torch.randn(3, generator=generator)) for _ in range(8)]
    runner = Runner(
        model=Line(), work_dir=str(work_dir), launcher='pytorch',
        train_dataloader=dict(
            dataset=data, batch_size=2, num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate')),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        randomness=dict(seed=0), env_cfg=dict(dist_cfg=dict(backend='nccl')),
        default_hooks=dict(checkpoint=None), cfg=dict(sync_bn='torch'))
    assert torch.distributed.get_backend() == 'gloo'
    assert torch.cuda.set_device is set_device
    assert isinstance(runner.model, MMDistributedDataParallel)
    assert not runner.model.find_unused_parameters
    runner.train()
    torch.save(runner.model.module.state_dict(),
               work_dir / f'{get_rank()}.pth')
    with_batch_norm = torch.nn.Sequential(torch.nn.Linear(3, 2),
                                          torch.nn.SyncBatchNorm(2))
    wrapped = runner.wrap_model(dict(find_unused_parameters=True),
                                with_batch_norm)
    assert type(wrapped) is MMDistributedDataParallel
    assert wrapped.find_unused_parameters
    assert not isinstance(wrapped.module[1], torch.nn.SyncBatchNorm)
    wrapped(torch.randn(4, 3)).sum().backward()
    assert runner.wrap_model(None, wrapped) is wrapped
    torch.distributed.destroy_process_group()


def train_naively(epochs):
    """The script's training in one process, with the batches of both."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    data = torch.stack([torch.randn(3, generator=generator) for _ in range(8)])
    for _ in range(epochs):
        for batch in data.split(4):
            optimizer.zero_grad()
            (linear(batch) - 1).square().mean().backward()
            optimizer.step()
    return {f'linear.{key}': value
            for key, value in linear.state_dict().items()}


def test_two_processes_equal_one_with_all_the_data(tmp_path, capfd):
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]

    def rank_of(rank):
        def train():
            os.environ.update(
                RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2',
                MASTER_ADDR='localhost', MASTER_PORT=str(port))
            train_as_rank(tmp_path)

        return train

    statuses = run_forked(rank_of(0), rank_of(1))
    log = ''.join(capfd.readouterr())
    assert statuses == [0, 0], log
    assert '2 processes train on CPU with gloo' in log
    assert 'SyncBatchNorm does not run on CPU' in log
    first, second = (torch.load(tmp_path / f'{rank}.pth', weights_only=True)
                     for rank in range(2))
    for key, value in train_naively(epochs=2).items():
        assert torch.equal(first[key], second[key])
        torch.testing.assert_close(first[key], value)


ENVIRONMENT = dict(
    RANK='0', LOCAL_RANK='0', WORLD_SIZE='1', MASTER_ADDR='localhost',
    MASTER_PORT='0', SLURM_PROCID='0', SLURM_NTASKS='1', SLURM_LOCALID='0',
    SLURM_NODELIST='localhost', OMPI_COMM_WORLD_LOCAL_RANK='0',
    OMPI_COMM_WORLD_SIZE='1', OMPI_COMM_WORLD_RANK='0')


@pytest.mark.parametrize(('backend', 'used'), [('nccl', 'gloo'),
                                               ('mpi', 'mpi')])
@pytest.mark.parametrize('name', cpu_distributed.INITIALIZERS)
def test_every_launcher_starts_without_cuda(monkeypatch, name, backend, used):
    for key, value in ENVIRONMENT.items():
        monkeypatch.setenv(key, value)
    calls = []

    def record(**kwargs):
        calls.append(kwargs['backend'])

    monkeypatch.setattr(torch.distributed, 'init_process_group', record)
    # enable_cpu_distributed would change MMEngine for the tests that follow.
    initialize = getattr(cpu_distributed.dist_utils, name)
    initialize = getattr(initialize, '__wrapped__', initialize)
    set_device = torch.cuda.set_device
    cpu_distributed._initialize_on_cpu(initialize, backend)
    assert calls == [used]
    assert torch.cuda.set_device is set_device


def test_nothing_changes_beside_an_accelerator(monkeypatch):
    monkeypatch.setattr(cpu_distributed, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(Runner, 'wrap_model', Runner.wrap_model)
    before = Runner.wrap_model
    assert cpu_distributed.enable_cpu_distributed() is False
    assert Runner.wrap_model is before
