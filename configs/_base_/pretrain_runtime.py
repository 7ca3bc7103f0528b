"""Runtime for pre-training: the epoch reaches the transforms, and a loss that
is not finite ends the run.
"""

_base_ = './default_runtime.py'

# ========================== Possibly modified ==========================
checkpoint_interval = 10

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    checkpoint=dict(interval=checkpoint_interval, max_keep_ckpts=3),
    transform_epoch=dict(type='mmmedmask.TransformEpochHook'),
    nan_guard=dict(type='mmmedmask.NaNGuardHook'))
