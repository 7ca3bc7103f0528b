"""Runtime for pre-training: the epoch reaches the transforms, how far the
encoder moves is logged, and a loss that is not finite ends the run.
"""

_base_ = './default_runtime.py'

# ========================== Possibly modified ==========================
checkpoint_interval = 10

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    checkpoint=dict(interval=checkpoint_interval, max_keep_ckpts=3),
    transform_epoch=dict(type='mmmedmask.TransformEpochHook'),
    movement=dict(type='mmmedmask.MovementHook'),
    nan_guard=dict(type='mmmedmask.NaNGuardHook'))
