"""NCT-CRC-HE-100K-NONORM for SimCLR: smaller crops and stronger colours than
MoCo v2's, batches of 1,024 on 8 GPUs.
"""

_base_ = './nct_tiles_mocov2.py'

# ========================= Frequently modified =========================
batch_size = 128  # per GPU

# ========================== Possibly modified ==========================
crop_ratio_range = (0.08, 1.0)

# ====================== Unmodified in most cases =======================
crop = dict(_base_.crop, crop_ratio_range=crop_ratio_range)
jitter = dict(
    _base_.jitter,
    transforms=[
        dict(
            type='mmmedmask.ColorJitter',
            brightness=0.8,
            contrast=0.8,
            saturation=0.8,
            hue=0.2)
    ])
colors = [_base_.flip, jitter, _base_.gray, _base_.blur]
train_pipeline = [
    _base_.load_tile,
    dict(type='MultiView', num_views=2, transforms=[[crop, *colors]]),
    _base_.pack_views,
]
train_dataloader = dict(
    batch_size=batch_size, dataset=dict(pipeline=train_pipeline))
