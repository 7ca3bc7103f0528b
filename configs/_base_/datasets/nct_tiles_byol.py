"""NCT-CRC-HE-100K-NONORM for BYOL: two views that differ in how often they
are blurred and solarised, batches of 1,024 on 8 GPUs.
"""

_base_ = './nct_tiles_mocov2.py'

# ========================= Frequently modified =========================
batch_size = 128  # per GPU

# ========================== Possibly modified ==========================
crop_ratio_range = (0.08, 1.0)
# How often the first and the second view are blurred and solarised.
blur_probs = (1.0, 0.1)
solarize_probs = (0.0, 0.2)

# ====================== Unmodified in most cases =======================
first_steps = [
    dict(
        _base_.view_pipeline[0],
        crop_ratio_range=crop_ratio_range,
        interpolation='bicubic'),
    _base_.view_pipeline[4],
    dict(
        type='RandomApply',
        transforms=[
            dict(
                type='mmmedmask.ColorJitter',
                brightness=0.4,
                contrast=0.4,
                saturation=0.2,
                hue=0.1)
        ],
        prob=0.8),
    _base_.view_pipeline[2],
]
view_pipeline = [
    *first_steps,
    dict(_base_.view_pipeline[3], prob=blur_probs[0]),
    dict(type='Solarize', thr=128, prob=solarize_probs[0]),
]
second_view_pipeline = [
    *first_steps,
    dict(_base_.view_pipeline[3], prob=blur_probs[1]),
    dict(type='Solarize', thr=128, prob=solarize_probs[1]),
]
train_pipeline = [
    _base_.train_pipeline[0],
    dict(
        type='MultiView',
        num_views=[1, 1],
        transforms=[view_pipeline, second_view_pipeline]),
    _base_.train_pipeline[2],
]
train_dataloader = dict(
    batch_size=batch_size, dataset=dict(pipeline=train_pipeline))
