"""Let a config switch off any hook that its base has in ``default_hooks``.

MMEngine takes ``None`` for the hooks that it makes by itself alone, and ends
with an empty ``AssertionError`` for any other key (no upstream issue).

Delete when ``Runner.register_default_hooks`` takes it for all.
"""

from mmmedmask.compat.replacing import replaces


def accept_missing_hooks() -> None:
    """Let runners leave out hooks that are None; imports MMEngine's runner."""
    from mmengine.runner.runner import Runner

    @replaces(Runner, 'register_default_hooks')
    def register_hooks(register, self: Runner, hooks: dict | None = None):
        own = ('checkpoint', 'logger', 'param_scheduler', 'runtime_info',
               'sampler_seed', 'timer')
        register(self, {name: hook for name, hook in (hooks or {}).items()
                        if hook is not None or name in own})
