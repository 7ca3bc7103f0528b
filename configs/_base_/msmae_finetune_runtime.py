"""Runtime for fine-tuning after MSMAE: checks, the best checkpoint.

On top of our default runtime: the weights of the backbone are verified before
training, a loss that is not finite ends the run, and besides the last
checkpoint the one with the best top-1 accuracy is kept.
"""

_base_ = './default_runtime.py'

# ========================== Possibly modified ==========================
checkpoint_interval = 10
# The paper takes the best epoch on the validation set, and has no test set.
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
        # Average pooling has a norm of its own in place of the last one.
        allowed_missing=['ln2.*'],
        allowed_unused=['ln1.*']),
    nan_guard=dict(type='mmmedmask.NaNGuardHook'))
