"""A config switches off a hook of its base by None, for any runner."""

from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from torch import nn

from mmmedmask.compat import accept_missing_hooks


def hooks_of(folder, **hooks):
    """Names of the hooks of a child with ``hooks`` in place of its base's."""
    base = ConfigDict(default_hooks=dict(
        nan_guard=dict(type='mmmedmask.NaNGuardHook', interval=5)))
    merged = Config._merge_a_into_b(
        ConfigDict(default_hooks=dict(hooks)), base)
    runner = Runner(nn.Linear(1, 1), str(folder), experiment_name=folder.name,
                    default_hooks=merged.default_hooks)
    return {type(hook).__name__ for hook in runner.hooks}


def test_none_switches_a_hook_off(tmp_path):
    accept_missing_hooks()  # Once more changes nothing.
    all_hooks = hooks_of(tmp_path / 'all')
    assert {'NaNGuardHook', 'LoggerHook'} <= all_hooks
    assert hooks_of(tmp_path / 'less', nan_guard=None, logger=None) \
        == all_hooks - {'NaNGuardHook', 'LoggerHook'}
