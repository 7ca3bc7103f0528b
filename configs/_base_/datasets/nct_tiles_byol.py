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
crop = dict(
    _base_.crop, crop_ratio_range=crop_ratio_range, interpolation='bicubic')
jitter = dict(
    _base_.jitter,
    transforms=[
        dict(
            type='mmmedmask.ColorJitter',
            brightness=0.4,
            contrast=0.4,
            saturation=0.2,
            hue=0.1)
    ])
# What follows the crop in each view.
view_colors = [[
    _base_.flip,
    jitter,
    _base_.gray,
    dict(_base_.blur, prob=blur_prob),
    dict(type='Solarize', thr=128, prob=solarize_prob),
] for blur_prob, solarize_prob in zip(
    blur_probs, solarize_probs, strict=True)]
train_pipeline = [
    _base_.load_tile,
    dict(
        type='MultiView',
        num_views=[1, 1],
        transforms=[[crop, *colors] for colors in view_colors]),
    _base_.pack_views,
]
train_dataloader = dict(
    batch_size=batch_size, dataset=dict(pipeline=train_pipeline))
