"""Precise BN equals a loop over known batches, on one rank and on two."""

import copy
import random

import numpy as np
import pytest
import torch
from processes import evaluate_on_ranks, run_ranks
from tiny_runs import TinyImages, TinyModel, copies, heard, noting, tiny_runner
from torch import distributed as dist
from torch import nn

from mmmedmask.engine.hooks import PreciseBNHook
from mmmedmask.engine.hooks.precise_bn import (
    FORWARDS,
    active_batch_norms,
    forward_features,
    update_bn_statistics,
)


def _batches(indices, size=2, length=8):
    """Yield batches as the loader does: indices in order, again and again."""
    data = TinyImages(length)
    for b in indices:
        yield dict(inputs=torch.stack(
            [data[(b * size + i) % length]['inputs'] for i in range(size)]))


def _naive_statistics(model, batches):
    """Means over batches, layer by layer, in float64, without momentum.

    Only for a model without dropout.
    """
    found = {}
    for batch in batches:
        x = batch['inputs'].double()
        for name, layer in copy.deepcopy(
                model.backbone).double().named_children():
            if isinstance(layer, nn.BatchNorm2d):
                found.setdefault(name, []).append(torch.stack(
                    [x.mean((0, 2, 3)), x.var((0, 2, 3))]))
                x = nn.functional.batch_norm(
                    x, None, None, layer.weight, layer.bias, training=True,
                    eps=layer.eps)
            else:
                x = layer(x)
    return {name: sum(each) / len(each) for name, each in found.items()}


def assert_statistics(state, expected, rtol=1e-5):
    for name, statistics in expected.items():
        for what, value in zip(('mean', 'var'), statistics, strict=True):
            torch.testing.assert_close(
                state[f'backbone.{name}.running_{what}'].double(), value,
                rtol=rtol, atol=rtol / 10)


def _without_dropout():
    torch.manual_seed(3)
    model = TinyModel()
    model.backbone[2] = nn.Identity()
    for name in ('1', '4'):
        layer = model.backbone.get_submodule(name)
        nn.init.uniform_(layer.weight, .5, 2.)
        nn.init.uniform_(layer.bias, -1., 1.)
    return model


@pytest.mark.parametrize('momentum', [.1, None])
def test_equals_the_mean_over_known_batches(momentum):
    model = _without_dropout()
    for layer in active_batch_norms(model).values():
        layer.momentum = momentum
    expected = _naive_statistics(model, _batches(range(13)))
    count, unseen = update_bn_statistics(model, _batches(range(13)),
                                         forward_features)
    assert count == 13
    assert unseen == ['head_norm']
    assert_statistics(model.state_dict(), expected)


def test_leaves_everything_else_as_found():
    model = TinyModel()
    model.backbone[1].eval()
    model.backbone[4].momentum = None
    model.head_norm.momentum = .3
    model.backbone[4].num_batches_tracked += 5
    model.eval()
    model.backbone[0].train()
    before = copy.deepcopy(model)
    flags = [m.training for m in model.modules()]
    torch.manual_seed(5)
    np.random.seed(6)
    random.seed(7)
    states = torch.get_rng_state(), random.getstate()
    drawn = copy.deepcopy(np.random.get_state()[1])

    def forward(model, batch):
        np.random.rand(3)
        random.random()
        forward_features(model, batch)  # dropout draws, too

    update_bn_statistics(model, _batches(range(3)), forward)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], drawn)
    assert random.getstate() == states[1]
    assert [m.training for m in model.modules()] == flags
    assert model.backbone[4].momentum is None
    assert model.head_norm.momentum == .3
    assert not any(m._forward_hooks for m in model.modules())
    changed = [name for name, value in model.state_dict().items()
               if not torch.equal(value, before.state_dict()[name])]
    assert changed == [f'backbone.{i}.running_{what}' for i in (1, 4)
                       for what in ('mean', 'var')]


def test_restores_after_an_error():
    model = TinyModel()
    before = copy.deepcopy(model.state_dict())

    def forward(model, batch):
        forward_features(model, batch)
        raise RuntimeError('no memory')

    with pytest.raises(RuntimeError, match='no memory'):
        update_bn_statistics(model, _batches(range(3)), forward)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert model.head_norm.momentum == .1


def test_frozen_layers_are_not_measured():
    class Frozen(TinyModel):
        def train(self, mode=True):
            super().train(mode)
            self.backbone[1].eval()
            return self

    model = Frozen()
    assert list(active_batch_norms(model.train())) == [
        'backbone.4', 'head_norm']
    update_bn_statistics(model, _batches(range(2)), forward_features)
    assert model.backbone[1].running_mean.abs().sum() == 0


def test_sync_batch_norm_counts_as_batch_norm():
    model = nn.SyncBatchNorm.convert_sync_batchnorm(_without_dropout())
    expected = _naive_statistics(_without_dropout(), _batches(range(4)))
    update_bn_statistics(model, _batches(range(4)), forward_features)
    assert_statistics(model.state_dict(), expected)
    with pytest.raises(ValueError, match='no batch'):
        update_bn_statistics(TinyModel(), [], forward_features)
    layer = nn.BatchNorm2d(3)
    with pytest.raises(ValueError, match=r'batch gives \(1, 3, 1, 1\)'):
        update_bn_statistics(layer, [torch.ones(1, 3, 1, 1)],
                             nn.Module.__call__)
    assert not layer._forward_pre_hooks
    assert layer.momentum == .1


@pytest.mark.parametrize(('by_epoch', 'states_by_epoch'), [
    (False, False), (True, True), (True, False)])
def test_runs_once_before_the_last_save_and_validation(tmp_path, by_epoch,
                                                       states_by_epoch):
    model = _without_dropout()
    saver, saved = noting(
        'before_save_checkpoint', lambda runner, checkpoint:
        copies(checkpoint['state_dict']), 'LOWEST')
    validator, validated = noting(
        'before_val', lambda runner: copies(runner.model.state_dict()),
        'LOWEST')
    val = dict(
        val_dataloader=dict(dataset=TinyImages(2), batch_size=1, num_workers=0,
                            sampler=dict(type='DefaultSampler', shuffle=False),
                            collate_fn=dict(type='default_collate')),
        val_cfg=dict(), val_evaluator=[])
    # Four iterations of two images: one epoch. Precise BN asks for ten.
    runner = tiny_runner(
        tmp_path, model, [PreciseBNHook(10, forward='loss'), saver, validator],
        max_iters=2 if by_epoch else 3, by_epoch=by_epoch,
        default_hooks=dict(checkpoint=dict(
            type='CheckpointHook', interval=1, by_epoch=states_by_epoch)),
        **val)
    runner.train()
    # The loader goes on where training stopped; by epochs it starts again
    # and ends after four.
    indices = range(4) if by_epoch else range(3, 13)
    expected = _naive_statistics(model, _batches(indices))
    for where in (saved[-1], validated[-1], model.state_dict()):
        assert_statistics(where, expected, rtol=1e-4)
    assert len(saved) == (2 if states_by_epoch else 8 if by_epoch else 3)
    first = saved[0]['backbone.1.running_mean'].double()
    assert (first - expected['1'][0]).abs().max() > 1e-3


def test_an_early_end_is_measured_and_saved(tmp_path):
    def stop(runner, **_):
        runner.train_loop.stop_training = runner.epoch == 1

    model = _without_dropout()
    hook = PreciseBNHook(4, forward='loss')
    tiny_runner(tmp_path, model, [hook, noting('after_train_epoch', stop)[0]],
                max_iters=9, by_epoch=True, default_hooks=dict(checkpoint=dict(
                    type='mmmedmask.SafeCheckpointHook', interval=1))).train()
    expected = _naive_statistics(model, _batches(range(4)))
    saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    for state in (model.state_dict(), saved['state_dict']):
        assert_statistics(state, expected, rtol=1e-4)


def test_a_loader_that_keeps_its_workers_ends_as_planned(tmp_path):
    loader = dict(dataset=TinyImages(8), batch_size=2, num_workers=1,
                  persistent_workers=True,
                  sampler=dict(type='DefaultSampler', shuffle=False),
                  collate_fn=dict(type='default_collate'))
    runner = tiny_runner(tmp_path, TinyModel(), [PreciseBNHook(2)],
                         max_iters=2, by_epoch=True, train_dataloader=loader)
    runner.train()
    assert runner.iter == runner.max_iters == 8


def test_says_how_many_batches_it_used(tmp_path):
    messages = heard(tiny_runner(tmp_path, TinyModel(), [PreciseBNHook(10)],
                                 max_iters=1, by_epoch=True))
    assert any('used 4 batches instead of 10' in m for m in messages)
    assert any("['head_norm']" in m for m in messages)


def test_without_batch_norm_no_batch_is_spent(tmp_path, monkeypatch):
    """Transformers inherit the hook with the runtime of the detectors."""
    model = TinyModel()
    for name in ('backbone.1', 'backbone.4', 'head_norm'):
        model.set_submodule(name, nn.Identity())
    calls = []
    monkeypatch.setitem(FORWARDS, 'loss', lambda *given: calls.append(given))
    runner = tiny_runner(tmp_path, model, [PreciseBNHook(3, forward='loss')])
    messages = heard(runner)
    assert not calls
    assert sum('Precise BN will do nothing' in one for one in messages) == 1


def test_a_model_without_features_is_found_before_training(tmp_path):
    class NoFeatures(nn.Module):
        train_step = TinyModel.train_step

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, inputs):
            return inputs

    runner = tiny_runner(tmp_path, NoFeatures(), [PreciseBNHook()])
    with pytest.raises(ValueError, match='NoFeatures has no extract_feat'):
        runner.train()


def test_two_ranks_agree_on_the_mean_over_all_batches(tmp_path):
    def update_share(rank):
        model = _without_dropout()
        mine = range(0, 4) if rank == 0 else range(4, 8)
        update_bn_statistics(
            model, _batches(mine, length=40), forward_features)
        torch.save(model.state_dict(), tmp_path / f'rank{rank}')

    run_ranks(update_share, tmp_path)
    states = [torch.load(tmp_path / f'rank{rank}', weights_only=True)
              for rank in range(2)]
    expected = _naive_statistics(_without_dropout(),
                                 _batches(range(8), length=40))
    assert_statistics(states[0], expected)
    assert all(torch.equal(value, states[1][name])
               for name, value in states[0].items() if 'running' in name)


def test_an_error_while_reading_ends_ranks_that_meet_in_the_model(tmp_path):
    def forward(model, batch):
        dist.all_gather_object([None, None], 'what SyncBN would exchange')
        forward_features(model, batch)

    def measure(rank):
        def batches():
            yield from _batches([0])
            if rank == 0:
                raise OSError('cannot read x.png')
            yield from _batches([1])

        try:
            update_bn_statistics(TinyModel(), batches(), forward)
        except Exception as error:
            return f'{type(error).__name__}: {error}'

    assert evaluate_on_ranks(measure, tmp_path) == [
        'OSError: cannot read x.png',
        'RankError: rank 0 has failed: OSError: cannot read x.png']


@pytest.mark.parametrize('number', [0, 1])
def test_ranks_may_have_other_numbers_of_batches(tmp_path, number):
    def measure(rank):
        model = _without_dropout()
        count, _ = update_bn_statistics(
            model, _batches(range(3 if rank == 0 else number)),
            forward_features)
        return [count, model.backbone[1].running_mean.tolist()]

    (first, mean), (second, other) = evaluate_on_ranks(measure, tmp_path)
    assert (first, second) == (3, number)
    assert mean == other
    expected = _naive_statistics(_without_dropout(),
                                 _batches([0, 1, 2, *range(number)]))
    torch.testing.assert_close(torch.tensor(mean), expected['1'][0].float())
