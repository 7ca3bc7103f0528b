"""Runtime for SETR with mmseg: checks, epochs of transforms, best IoU.

On top of our default runtime: the weights of the backbone are verified
before training, a loss that is not finite ends the run, and besides the last
checkpoint the one with the best mean IoU per image is kept.
"""

_base_ = './default_runtime.py'

default_scope = 'mmseg'

# ========================== Possibly modified ==========================
# To resume after an interruption; the last epoch is always saved.
checkpoint_interval = 10
save_best = 'lesion/iou'

# ====================== Unmodified in most cases =======================
# mmmedmask.models does without mmseg, the head does not.
custom_imports = dict(
    imports=['mmmedmask', 'mmmedmask.models.msmae.setr_head'],
    allow_failed_imports=False)

default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(
        interval=checkpoint_interval,
        max_keep_ckpts=1,
        save_best=save_best,
        rule='greater'),
    load_check=dict(
        type='mmmedmask.LoadCheckHook',
        modules=['backbone'],
        # Final normalisations of pre-training and classification: SETR takes
        # the layers' output as it is.
        allowed_unused=['ln1.*', 'ln2.*']),
    transform_epoch=dict(type='mmmedmask.TransformEpochHook'),
    nan_guard=dict(type='mmmedmask.NaNGuardHook'))

visualizer = dict(type='mmmedmask.SegmentationVisualizer')
log_processor = dict(window_size=20)
