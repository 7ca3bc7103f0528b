"""NCT-CRC-HE-100K-NONORM for SimCLR: smaller crops and stronger colours than
MoCo v2's, batches of 1,024 on 8 GPUs.
"""

_base_ = './nct_tiles_mocov2.py'

# ========================= Frequently modified =========================
batch_size = 128  # per GPU

# ========================== Possibly modified ==========================
crop_ratio_range = (0.08, 1.0)

# ====================== Unmodified in most cases =======================
view_pipeline = [
    dict(_base_.view_pipeline[0], crop_ratio_range=crop_ratio_range),
    _base_.view_pipeline[4],
    dict(
        type='RandomApply',
        transforms=[
            dict(
                type='mmmedmask.ColorJitter',
                brightness=0.8,
                contrast=0.8,
                saturation=0.8,
                hue=0.2)
        ],
        prob=0.8),
    *_base_.view_pipeline[2:4],
]
train_pipeline = [
    _base_.train_pipeline[0],
    dict(_base_.train_pipeline[1], transforms=[view_pipeline]),
    _base_.train_pipeline[2],
]
train_dataloader = dict(
    batch_size=batch_size, dataset=dict(pipeline=train_pipeline))
