"""NCT-CRC-HE-100K-NONORM for MoCo v1: its crops and colours (no blur, a
stronger hue, and colours of every view are changed).
"""

_base_ = './nct_tiles_mocov2.py'

# ====================== Unmodified in most cases =======================
colors = [
    _base_.gray,
    dict(
        type='mmmedmask.ColorJitter',
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.4),
    _base_.flip,
]
train_pipeline = [
    _base_.load_tile,
    dict(type='MultiView', num_views=2, transforms=[[_base_.crop, *colors]]),
    _base_.pack_views,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
