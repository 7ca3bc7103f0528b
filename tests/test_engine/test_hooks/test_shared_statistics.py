"""Ranks are validated and saved with the same BatchNorm statistics."""

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import EMAHook
from processes import run_ranks
from tiny_runs import TinyImages, TinyModel, copies, noting, tiny_runner
from torch import nn

from mmmedmask.compat.cpu_distributed import enable_cpu_distributed
from mmmedmask.engine.hooks import SharedStatisticsHook, shared_statistics
from mmmedmask.engine.hooks.shared_statistics import average_statistics


def statistics(state):
    return {name: value for name, value in copies(state).items()
            if 'running' in name}


def differing(one, other):
    return [name for name, value in one.items()
            if not torch.equal(value, other[name])]


def train(work_dir, by_epoch, hooks=(), **settings):
    """Take three iterations or epochs; save after two and at the end.

    Returns the statistics of validations and after all iterations.
    """
    validator, validated = noting(
        'before_val_iter', lambda runner, **_: statistics(
            getattr(runner.model, 'module', runner.model).state_dict()))
    watcher, watched = noting('after_train_iter', lambda runner, **_:
                              statistics(runner.model.state_dict()), 'LOWEST')
    kind = dict(by_epoch=by_epoch)
    torch.manual_seed(0)
    tiny_runner(
        work_dir, TinyModel(), [validator, watcher, *hooks], by_epoch=by_epoch,
        train_cfg=dict(kind, val_interval=2,
                       **{'max_epochs' if by_epoch else 'max_iters': 3}),
        val_dataloader=dict(dataset=TinyImages(2), batch_size=1, num_workers=0,
                            sampler=dict(type='DefaultSampler', shuffle=False),
                            collate_fn=dict(type='default_collate')),
        val_cfg=dict(), val_evaluator=Evaluator([]), default_hooks=dict(
            checkpoint=dict(kind, type='CheckpointHook', interval=2),
            shared=dict(type='mmmedmask.SharedStatisticsHook')),
        **settings).train()
    return validated, watched


@pytest.mark.parametrize('by_epoch', [False, True])
@pytest.mark.parametrize('averaged', [False, True])
def test_two_ranks_validate_what_is_saved(tmp_path, by_epoch, averaged):
    def train_rank(rank):
        enable_cpu_distributed()
        hooks = [EMAHook(update_buffers=True)] if averaged else []
        torch.save(train(tmp_path, by_epoch, hooks, launcher='pytorch'),
                   tmp_path / f'rank_{rank}')

    run_ranks(train_rank, tmp_path)
    (first, watched), (second, others) = (
        torch.load(tmp_path / f'rank_{rank}', weights_only=True)
        for rank in range(2))
    # In the first iteration nothing is shared.
    assert len(differing(watched[0], others[0])) == 6
    for step, one, other in zip((2, 3), first, second, strict=True):
        assert differing(one, other) == []
        name = f'{"epoch" if by_epoch else "iter"}_{step}.pth'
        saved = torch.load(tmp_path / name, weights_only=False)['state_dict']
        assert differing(one, saved) == []


def test_statistics_are_the_mean_over_ranks(tmp_path):
    def average(rank):
        layers = nn.ModuleList([nn.BatchNorm2d(2), nn.SyncBatchNorm(2),
                                nn.BatchNorm1d(2, track_running_stats=False)])
        layers[0].running_mean.copy_(torch.tensor([rank, 3.]))
        layers[0].running_var.fill_(2 + 2 * rank)
        layers[1].running_mean.fill_(.1)
        average_statistics([layers, nn.Linear(1, 1)])
        assert layers[0].running_mean.tolist() == [.5, 3]
        assert layers[0].running_var.tolist() == [3, 3]
        assert torch.equal(layers[1].running_mean, torch.full((2, ), .1))
        average_statistics([nn.Linear(1, 1)])

    run_ranks(average, tmp_path)


def test_one_process_shares_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_statistics, 'average_statistics', None)
    validated, _ = train(tmp_path, True)
    assert validated
    assert SharedStatisticsHook.priority == 'BELOW_NORMAL'
