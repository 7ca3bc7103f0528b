"""Two views of an image for MoCo v3 with a transformer: one always blurred,
the other one seldom, but at times solarised.
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
            brightness=0.4,
            contrast=0.4,
            saturation=0.2,
            hue=0.1)
    ])
# After the crop.
first_view = [jitter, _base_.gray, dict(_base_.blur, prob=1.0), _base_.flip]
second_view = [
    jitter,
    _base_.gray,
    dict(_base_.blur, prob=0.1),
    dict(type='Solarize', thr=128, prob=0.2),
    _base_.flip,
]
views_pipeline = [
    _base_.load_view,
    dict(
        type='MultiView',
        num_views=[1, 1],
        transforms=[[crop, *first_view], [crop, *second_view]]),
    _base_.pack_views,
]
