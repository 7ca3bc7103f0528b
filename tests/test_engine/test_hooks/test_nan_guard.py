"""The NaN guard names the first bad iteration, whatever its interval."""

import importlib
import math
import re
from functools import partial

import pytest
import torch
from tiny_runs import TinyModel, copies, noting, tiny_runner

from mmmedmask.engine.hooks import NaNGuardHook
from mmmedmask.engine.hooks.nan_guard import gradient_norms


def _stopped(tmp_path, poison, interval, **kwargs):
    runner = tiny_runner(tmp_path, TinyModel(poison), [NaNGuardHook(interval)],
                         max_iters=12, **kwargs)
    with pytest.raises(FloatingPointError) as caught:
        runner.train()
    return str(caught.value), runner


@pytest.mark.parametrize('interval', [1, 4, 5, 100])
def test_names_the_first_bad_iteration(tmp_path, interval):
    hooks = dict(
        checkpoint=dict(type='CheckpointHook', interval=50, by_epoch=False))
    text, _ = _stopped(tmp_path, {6: 'loss'}, interval, default_hooks=hooks)
    assert 'at iteration 6 ' in text
    assert 'loss and loss_b is not finite' in text
    assert re.search(r'loss_a=[\d.]+', text)
    assert 'loss_b=nan' in text
    assert 'gradient norm: nan' in text


@pytest.mark.parametrize('clip', [None, dict(max_norm=1.)])
def test_names_the_gradient_that_is_not_finite(tmp_path, clip):
    wrapper = dict(optimizer=dict(type='SGD', lr=.01), clip_grad=clip)
    text, _ = _stopped(tmp_path, {3: 'gradient'}, 1, optim_wrapper=wrapper)
    assert 'the gradient norm is not finite at iteration 3 ' in text
    assert '(1 of 10 parameters): backbone.3.bias\n' in text
    assert not math.isnan(float(re.search(r'loss_a=(\S+),', text)[1]))


def test_no_checkpoint_holds_broken_weights(tmp_path):
    _, runner = _stopped(tmp_path, {6: 'loss'}, 100)
    files = sorted(tmp_path.glob('iter_*.pth'))
    assert [f.name for f in files] == [f'iter_{i}.pth' for i in range(1, 6)]
    for file in files:
        weights = torch.load(file, weights_only=False)['state_dict']
        assert all(torch.isfinite(v).all() for v in weights.values())


def test_finite_training_is_the_same_with_the_guard(tmp_path):
    results = []
    for hooks in ([], [NaNGuardHook(3)]):
        torch.manual_seed(0)
        runner = tiny_runner(
            tmp_path, TinyModel(), hooks, max_iters=7, randomness=dict(seed=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=.1),
                               clip_grad=dict(max_norm=.1)))
        clip = torch.nn.utils.clip_grad_norm_
        runner.train()
        assert runner.optim_wrapper.clip_func is clip
        assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks
        results.append(runner.model.state_dict())
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


@pytest.mark.parametrize('clip', [None, dict(max_norm=1.)])
def test_a_skipped_step_is_legal(tmp_path, monkeypatch, clip):
    """GradScaler's own skipping, with a scale that overflows at first."""
    module = importlib.import_module(
        'mmengine.optim.optimizer.amp_optimizer_wrapper')
    monkeypatch.setattr(module, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(module, 'GradScaler',
                        partial(torch.amp.GradScaler, device='cpu'))
    model = TinyModel()
    forward = model.forward
    # No float32 holds this loss after scaling by 2^127.
    model.forward = lambda inputs, mode='tensor': {
        name: 100 * value for name, value in forward(inputs, mode).items()}
    before = copies(dict(model.named_parameters()))
    watch, moved = noting('after_train_iter', lambda runner, **_: any(
        not torch.equal(v, before[k]) for k, v in model.named_parameters()))
    runner = tiny_runner(
        tmp_path, model, [NaNGuardHook(1), watch], max_iters=12,
        optim_wrapper=dict(
            type='AmpOptimWrapper',
            loss_scale=dict(init_scale=2.**127, backoff_factor=2.**-30),
            optimizer=dict(type='SGD', lr=.01), clip_grad=clip))
    runner.train()
    # Skipped while gradients overflow, taken afterwards.
    assert not moved[0]
    assert moved[-1]


def test_a_fused_optimizer_skips_and_unscales_by_itself():
    hook = NaNGuardHook(1)
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weight], lr=1.)
    weight.grad = torch.tensor([6., 8.])
    optimizer.grad_scale = torch.tensor(4.)
    optimizer.found_inf = torch.tensor(0.)
    hook._before_step(optimizer, (), {})
    weight.grad = torch.tensor([float('inf'), 8.])
    optimizer.found_inf = torch.tensor(1.)
    hook._before_step(optimizer, (), {})
    assert [norms.tolist() for _, norms in hook._applied] == [[2.5], [0.]]


def test_gradient_accumulation(tmp_path):
    wrapper = dict(optimizer=dict(type='SGD', lr=.01), accumulative_counts=3)
    text, _ = _stopped(tmp_path, {5: 'loss'}, 1, optim_wrapper=wrapper)
    assert 'at iteration 5 ' in text
    assert 'gradient norm: no step was taken' in text


def test_gradient_norms_equal_a_loop():
    gradients = [torch.randn(3, 4), torch.randn(7).half(), torch.zeros(2)]
    expected = [
        math.sqrt(sum(float(x)**2 for x in g.flatten())) for g in gradients]
    assert gradient_norms(gradients).tolist() == pytest.approx(
        expected, rel=1e-6)
    assert gradient_norms([]).shape == (0, )
