"""Runtime for gland detection with mmdet: iterations, checks, statistics.

On top of our default runtime: the weights of the backbone are verified
before training, BatchNorm statistics are measured over 200 batches just
before the one evaluation, and a loss that is not finite ends the run.
"""

_base_ = './default_runtime.py'

default_scope = 'mmdet'

# ========================== Possibly modified ==========================
# To resume after an interruption; the last iteration is always saved.
checkpoint_interval = 1000
precise_bn_batches = 200

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(
        by_epoch=False, interval=checkpoint_interval, max_keep_ckpts=1),
    visualization=dict(type='mmmedmask.PredictionPicturesHook'),
    load_check=dict(type='mmmedmask.LoadCheckHook', modules=['backbone']),
    precise_bn=dict(
        type='mmmedmask.PreciseBNHook', num_batches=precise_bn_batches),
    nan_guard=dict(type='mmmedmask.NaNGuardHook'))

visualizer = dict(type='DetLocalVisualizer')
log_processor = dict(window_size=20, by_epoch=False)
