"""NCT-CRC-HE-100K-NONORM for MoCo v1: its crops and colours (no blur, a
stronger hue, and colours of every view are changed).
"""

_base_ = './nct_tiles_mocov2.py'

# ====================== Unmodified in most cases =======================
view_pipeline = [
    _base_.view_pipeline[0],
    _base_.view_pipeline[2],
    dict(
        type='mmmedmask.ColorJitter',
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.4),
    _base_.view_pipeline[4],
]
train_pipeline = [
    _base_.train_pipeline[0],
    dict(_base_.train_pipeline[1], transforms=[view_pipeline]),
    _base_.train_pipeline[2],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
