"""Take a hook of a base out of a config."""

from mmengine.hooks import Hook

from mmmedmask.registry import HOOKS


@HOOKS.register_module()
class NoHook(Hook):
    """Do nothing, in the place of a hook that a base has.

    MMEngine takes ``None`` for its own default hooks alone and ends with an
    empty ``AssertionError`` for any other key; through
    :func:`mmmedmask.apis.build_runner`, which our tools use, it does.

    Example:
        >>> default_hooks = dict(
        ...     attention_mask=dict(_delete_=True, type='mmmedmask.NoHook'))
    """
