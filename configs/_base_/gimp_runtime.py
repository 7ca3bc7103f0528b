"""Runtime for GiMP's pre-training: draws by epoch, a guard."""

_base_ = './default_runtime.py'

# ========================== Possibly modified ==========================
checkpoint_interval = 10

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=checkpoint_interval, max_keep_ckpts=3),
    transform_epoch=dict(type='mmmedmask.TransformEpochHook'),
    nan_guard=dict(type='mmmedmask.NaNGuardHook'))
