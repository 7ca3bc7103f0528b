"""Runtime for classifiers of slides and genes: a guard, the best checkpoint.

Besides the last checkpoint the one with the best AUC on the validation split
is kept. GiMP's paper takes the best accuracy, of which one patient of 189 is
half a point and several epochs have the same. best.pth is the same file; a
later stage takes it.
"""

_base_ = './default_runtime.py'

# ========================== Possibly modified ==========================
checkpoint_interval = 10
save_best = 'slide/auc'

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(
        interval=checkpoint_interval,
        max_keep_ckpts=1,
        save_best=save_best,
        rule='greater'),
    best_checkpoint=dict(type='mmmedmask.BestCheckpointHook'),
    transform_epoch=dict(type='mmmedmask.TransformEpochHook'),
    nan_guard=dict(type='mmmedmask.NaNGuardHook'))
