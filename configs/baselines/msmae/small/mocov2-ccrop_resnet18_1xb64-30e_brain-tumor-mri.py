"""MoCo v2 with ContrastiveCrop at a size for CPU cores, on Brain Tumor MRI.

Views of 64 pixels, ResNet-18, 30 epochs, of which the first 6 crop at random.
"""

_base_ = '../mocov2-ccrop_resnet50_1xb64-coslr-300e_brain-tumor-mri.py'

# ========================= Frequently modified =========================
max_epochs = 30
# Higher than the paper's sizes have it, for a tenth of the epochs.
base_lr = 0.03

# ========================== Possibly modified ==========================
image_size = 64
# The last map has 4 x 4 places.
strides = (1, 2, 2, 1)
begin = 6
interval = 6
num_workers = 0

# ====================== Unmodified in most cases =======================
content_crop = dict(_base_.content_crop, scale=image_size)
views_pipeline = [
    _base_.load_view,
    dict(
        type='MultiView',
        num_views=2,
        transforms=[[content_crop, *_base_.rest]]),
    _base_.pack_views,
]
whole_view_pipeline = [
    _base_.load_view,
    dict(_base_.resize_view, scale=image_size),
    _base_.pack_views,
]
train_dataloader = dict(
    num_workers=num_workers,
    persistent_workers=False,
    dataset=dict(pipeline=views_pipeline))
model = dict(
    backbone=dict(depth=18, strides=strides),
    neck=dict(in_channels=512, hid_channels=512))
optim_wrapper = dict(optimizer=dict(lr=base_lr))
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(
    # Of the labelled images that it trains on, and their validation split.
    probe=dict(
        type='mmmedmask.ProbeHook',
        size=image_size,
        max_images=600,
        interval=10),
    logger=dict(interval=44),
    checkpoint=dict(interval=5, max_keep_ckpts=1),
    content_crop=dict(
        begin=begin,
        interval=interval,
        num_workers=num_workers,
        pipeline=whole_view_pipeline))
