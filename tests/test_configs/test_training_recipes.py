"""Averaged weights, accumulated gradients, sharded training: they work."""

import functools
import json
import os
import socket

import pytest
import torch
from mmengine.hooks import Hook
from processes import run_forked
from shipped_configs import read, train, without_tests

from mmmedmask import apis
from mmmedmask.shrinking.shrink import shrink_config

SHARDED = 'mae_fsdp_vit-small-p16_8xb32-coslr-800e_nct'


class Steps(Hook):
    priority = 'VERY_LOW'

    def __init__(self):
        self.weights = []

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        self.weights.append({
            name: value.clone() for name, value
            in runner.model.state_dict().items()})


def run(name, folder, data, epochs):
    cfg = without_tests(shrink_config(read(name), folder, data))
    cfg.train_cfg.max_epochs = epochs
    for hook in ('loss_floors', 'movement', 'probe', 'precise_bn'):
        cfg.default_hooks.pop(hook, None)
    cfg.default_hooks.checkpoint.interval = epochs
    steps = Steps()
    runner, start, _ = train(cfg, steps)
    file = folder / 'run' / f'epoch_{epochs}.pth'
    return runner, [start.tensors, *steps.weights], torch.load(
        file, weights_only=False)


def test_checkpoints_hold_averaged_weights(tmp_path, drawn_data):
    """Those of every step, in a loop; training itself goes on as without."""
    name = 'cmim_ema_resnet18_8xb32-coslr-800e_nct'
    momentum = read(name).default_hooks.ema.momentum
    _, weights, saved = run(name, tmp_path, drawn_data, 2)
    assert len(weights) == 5
    average = dict(weights[1])
    for now in weights[2:]:
        for key, value in now.items():
            if value.is_floating_point():
                average[key] = (1 - momentum) * average[key] + momentum * value
    moved = 0
    for key, value in saved['state_dict'].items():
        if value.is_floating_point():
            torch.testing.assert_close(value, average[key])
            moved += not torch.equal(value, weights[-1][key])
    assert moved > 20
    raw = {key.removeprefix('module.'): value
           for key, value in saved['ema_state_dict'].items()}
    for key, value in weights[-1].items():
        assert torch.equal(raw[key], value)


def test_gradients_are_accumulated(tmp_path, drawn_data):
    """Of four batches, then the optimiser takes a step."""
    name = 'cmim_accumulated_resnet18_2xb32-coslr-800e_nct'
    assert read(name).auto_scale_lr.base_batch_size == \
        2 * 4 * read(name).train_dataloader.batch_size
    runner, weights, _ = run(name, tmp_path, drawn_data, 4)
    parameters = {key for key, _ in runner.model.named_parameters()}
    moved = [any(not torch.equal(now[key], before[key]) for key in parameters)
             for before, now in zip(weights, weights[1:], strict=False)]
    assert moved == [False, False, False, True] * 2


def sharded(rank, folder, data, sharding):
    """One process of the sharded run; its losses, and what it holds."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2',
        MASTER_ADDR='127.0.0.1', MASTER_PORT=(folder / 'port').read_text())
    cfg = without_tests(shrink_config(
        read(SHARDED if sharding else SHARDED.replace('_fsdp', '')),
        folder / 'run', data))
    cfg.train_cfg.max_epochs = 2
    for hook in ('loss_floors', 'movement', 'nan_guard'):
        cfg.default_hooks.pop(hook)
    if sharding:
        cfg.strategy.model_wrapper.auto_wrap_policy.min_num_params = 100
        # Without it PyTorch asks for an accelerator, and what it takes down
        # from one would be freed here.
        cfg.strategy.model_wrapper.device_id = 'cpu'
        stay = dict(offload_to_cpu=False, rank0_only=True)
        cfg.strategy.state_dict_cfg = dict(
            state_dict_type='FULL_STATE_DICT',
            state_dict_config=dict(type='FullStateDictConfig', **stay),
            optim_state_dict_config=dict(
                type='FullOptimStateDictConfig', **stay))
    losses = []

    class Losses(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None,
                             outputs=None):
            losses.append(float(outputs['loss']))

    runner = apis.build_runner(cfg, 'pytorch')
    runner.register_hook(Losses())
    runner.train()
    held = sum(one.numel() for one in runner.model.parameters())
    (folder / f'{rank}.json').write_text(json.dumps([losses, held]))


def test_parameters_are_sharded(tmp_path, drawn_data):
    """Two gloo processes: losses and weights as without sharding."""
    results = {}
    for name, sharding in (('whole', False), ('sharded', True)):
        folder = tmp_path / name
        folder.mkdir()
        with socket.socket() as place:
            place.bind(('127.0.0.1', 0))
            (folder / 'port').write_text(str(place.getsockname()[1]))
        assert run_forked(*(
            functools.partial(sharded, rank, folder, drawn_data, sharding)
            for rank in range(2))) == [0, 0]
        results[name] = (json.loads((folder / '0.json').read_text()),
                         torch.load(folder / 'run' / 'run' / 'epoch_2.pth',
                                    weights_only=False)['state_dict'])
    (losses, count), weights = results['whole']
    (others, share), theirs = results['sharded']
    assert others == pytest.approx(losses, rel=1e-4)
    assert set(theirs) == set(weights)
    for key, value in weights.items():
        torch.testing.assert_close(theirs[key], value, rtol=1e-3, atol=1e-5)
    assert share < .6 * count
