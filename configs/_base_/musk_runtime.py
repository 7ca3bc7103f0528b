"""Runtime for musk1: the last checkpoint alone, a guard."""

_base_ = './default_runtime.py'

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=1000, max_keep_ckpts=1),
    nan_guard=dict(type='mmmedmask.NaNGuardHook'))
