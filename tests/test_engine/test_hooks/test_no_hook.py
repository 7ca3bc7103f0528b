"""NoHook takes the place of a hook that a base has."""

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from torch import nn

from mmmedmask.engine.hooks import NaNGuardHook, NoHook


def run_of(folder, nan_guard):
    """A runner of a child that has its own word on the guard of a base."""
    base = ConfigDict(default_hooks=dict(
        nan_guard=dict(type='mmmedmask.NaNGuardHook', interval=5)))
    child = ConfigDict(default_hooks=dict(nan_guard=nan_guard))
    merged = Config._merge_a_into_b(child, base)
    return Runner(nn.Linear(1, 1), str(folder), experiment_name=folder.name,
                  default_hooks=merged.default_hooks)


def test_takes_the_place_of_a_guard(tmp_path):
    runner = run_of(tmp_path, dict(_delete_=True, type='mmmedmask.NoHook'))
    assert any(isinstance(hook, NoHook) for hook in runner.hooks)
    assert not any(isinstance(hook, NaNGuardHook) for hook in runner.hooks)


def test_mmengine_takes_no_none(tmp_path):
    """Once it does, NoHook can go."""
    with pytest.raises(AssertionError):
        run_of(tmp_path, None)
