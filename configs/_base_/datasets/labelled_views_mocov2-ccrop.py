"""Two views for MoCo v2 whose crops keep to an image's content.

ContrastiveCrop (arXiv 2202.03278) instead of MoCo v2's random crop; the rest
is MoCo v2's.
"""

_base_ = './labelled_views_mocov2.py'

# ========================== Possibly modified ==========================
# Epochs of random crops, and epochs from one search for the content to the
# next: 20 % of 300, as the authors have it.
begin = 60
interval = 60
# What is warm in a heat map from 0 to 1, and both parameters of the beta
# distribution that suppresses the middle.
threshold = 0.1
alpha = 0.6
# For the search.
refresh_workers = 4

# ====================== Unmodified in most cases =======================
content_crop = dict(
    type='mmmedmask.ContrastiveCrop',
    scale=_base_.view_size,
    alpha=alpha,
    crop_ratio_range=_base_.view_ratio_range,
    interpolation='bilinear')
# What follows the crop.
rest = [_base_.jitter, _base_.gray, _base_.blur, _base_.flip]
views_pipeline = [
    _base_.load_view,
    dict(type='MultiView', num_views=2, transforms=[[content_crop, *rest]]),
    _base_.pack_views,
]
resize_view = dict(
    type='mmmedmask.ResizeImage',
    scale=_base_.view_size,
    interpolation='bilinear')
whole_view_pipeline = [_base_.load_view, resize_view, _base_.pack_views]
# A child puts it into default_hooks.
content_crop_hook = dict(
    type='mmmedmask.ContrastiveCropHook',
    begin=begin,
    interval=interval,
    threshold=threshold,
    pipeline=whole_view_pipeline,
    num_workers=refresh_workers)
