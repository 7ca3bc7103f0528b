"""Every shipped config loads, builds when shrunk, and takes a step."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from torch.optim.optimizer import register_optimizer_step_pre_hook

import mmmedmask  # noqa: F401  (bases of other packages resolve)
from mmmedmask.shrinking.shrink import shrink_config

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
ALL = sorted(
    str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts)


def test_found_all_configs():
    """A wrong pattern must not make an empty test that passes."""
    count = 0
    for folder, _, files in os.walk(CONFIGS):
        if '_base_' not in folder.split(os.sep):
            count += sum(name.endswith('.py') for name in files)
    assert len(ALL) == count >= 30


def test_base_names_are_unique():
    """mim finds a config by its bare name, below any folder."""
    names = [path.name for path in CONFIGS.rglob('*.py')]
    assert sorted(names) == sorted(set(names))


def test_whole_bags_fit_into_shared_memory():
    """What the workers of a loader keep ready is below 4 GB."""
    cfg = Config.fromfile(
        CONFIGS / 'mil/abmil_1xb8-coslr-70e_tcga-nsclc.py')
    patches = cfg.train_dataloader.batch_sampler.max_tokens
    for name in ('train', 'val', 'test'):
        loader = cfg[f'{name}_dataloader']
        ready = loader.num_workers * loader.get('prefetch_factor', 2)
        assert ready * patches * 1024 * 4 < 4e9, name


@pytest.fixture
def plain_pretty_text(monkeypatch):
    """MMEngine formats each config five times; that is half of a step."""
    monkeypatch.setattr(
        Config, 'pretty_text', property(lambda self: str(self._cfg_dict)))


@pytest.fixture
def no_curves(monkeypatch):
    """Matplotlib takes longer for LesionCoverageHook's than all the rest."""
    monkeypatch.setattr('mmmedmask.engine.attention.coverage_hook.draw_coverage',
                        lambda table: np.zeros((1, 1, 3), np.uint8))


def _one_step(cfg):
    """Train for one iteration (one short epoch) without validation.

    Returns the runner, and which parameters the optimiser saw with and
    without a gradient.
    """
    if 'max_iters' in cfg.train_cfg:
        cfg.train_cfg.max_iters = 1
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator',
                 'test_dataloader', 'test_cfg', 'test_evaluator'):
        cfg[name] = None
    cfg.default_hooks.checkpoint = None
    runner = Runner.from_cfg(cfg)
    names = {id(p): name for name, p in runner.model.named_parameters()}
    seen = {True: set(), False: set()}

    def look(optimizer, args, kwargs):
        for group in optimizer.param_groups:
            for parameter in group['params']:
                if parameter.requires_grad:
                    seen[parameter.grad is not None].add(names[id(parameter)])

    handle = register_optimizer_step_pre_hook(look)
    try:
        runner.train()
    finally:
        handle.remove()
    return runner, seen


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    """Drawn once, for all configs that name the same data."""
    return tmp_path_factory.mktemp('data')


@pytest.mark.usefixtures('plain_pretty_text', 'no_curves')
@pytest.mark.parametrize('name', ALL)
def test_takes_a_training_step(name, tmp_path, data_dir):
    cfg = Config.fromfile(CONFIGS / name)
    runner, seen = _one_step(shrink_config(cfg, tmp_path, data_dir))
    assert runner.iter >= 1
    losses = runner.message_hub.log_scalars
    assert math.isfinite(losses['train/loss'].current())
    # A parameter without a gradient would stop distributed training, too.
    assert seen[True]
    assert not seen[False]
