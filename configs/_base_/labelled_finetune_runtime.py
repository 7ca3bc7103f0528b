"""Runtime for fine-tuning on labelled images: checks, the best checkpoint.

All tensors of the backbone have to come from the checkpoint, and all of the
checkpoint's are used; a loss that is not finite ends the run. Besides the last
checkpoint the one with the best top-1 accuracy is kept.
"""

_base_ = './default_runtime.py'

# ========================== Possibly modified ==========================
checkpoint_interval = 10
# MSMAE's paper takes the best epoch on the validation set, without a test set.
save_best = 'disease/top1'

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(
        interval=checkpoint_interval,
        max_keep_ckpts=1,
        save_best=save_best,
        rule='greater'),
    transform_epoch=dict(type='mmmedmask.TransformEpochHook'),
    load_check=dict(
        type='mmmedmask.LoadCheckHook',
        allowed_missing=[],
        # SimMIM alone has it.
        allowed_unused=['mask_token']),
    nan_guard=dict(type='mmmedmask.NaNGuardHook'))
