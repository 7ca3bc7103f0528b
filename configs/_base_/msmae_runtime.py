"""Runtime for MSMAE's pre-training: pictures of the masking, a guard."""

_base_ = './default_runtime.py'

# ========================== Possibly modified ==========================
checkpoint_interval = 10

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    checkpoint=dict(interval=checkpoint_interval, max_keep_ckpts=3),
    transform_epoch=dict(type='mmmedmask.TransformEpochHook'),
    attention_panel=dict(type='mmmedmask.AttentionPanelHook'),
    nan_guard=dict(type='mmmedmask.NaNGuardHook'))
