"""Two views of an image for SimCLR: smaller crops and stronger colours than
MoCo v2's.
"""

_base_ = './labelled_views_mocov2.py'

# ========================== Possibly modified ==========================
view_ratio_range = (0.08, 1.0)

# ====================== Unmodified in most cases =======================
crop = dict(_base_.crop, crop_ratio_range=view_ratio_range)
jitter = dict(
    _base_.jitter,
    transforms=[
        dict(
            type='ColorJitter',
            brightness=0.8,
            contrast=0.8,
            saturation=0.8,
            hue=0.2)
    ])
view = [crop, _base_.flip, jitter, _base_.gray, _base_.blur]
views_pipeline = [
    _base_.load_view,
    dict(type='MultiView', num_views=2, transforms=[view]),
    _base_.pack_views,
]
