"""SimCLR at a size for CPU cores, on Brain Tumor MRI.

Views of 64 pixels, ResNet-18, 30 epochs.
"""

_base_ = '../simclr_resnet50_1xb64-coslr-300e_brain-tumor-mri.py'

# ========================= Frequently modified =========================
max_epochs = 30
# Higher than the paper's sizes have it, for a tenth of the epochs.
base_lr = 0.3

# ========================== Possibly modified ==========================
image_size = 64
# The last map has 4 x 4 places.
strides = (1, 2, 2, 1)
num_workers = 0
warmup_epochs = 4

# ====================== Unmodified in most cases =======================
crop = dict(_base_.crop, scale=image_size)
view = [crop, _base_.flip, _base_.jitter, _base_.gray, _base_.blur]
views_pipeline = [
    _base_.load_view,
    dict(type='MultiView', num_views=2, transforms=[view]),
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
param_scheduler = [
    dict(_base_.warm_up, end=warmup_epochs),
    dict(_base_.cosine, begin=warmup_epochs),
]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(
    # Of the labelled images that it trains on, and their validation split.
    probe=dict(
        type='mmmedmask.ProbeHook',
        size=image_size,
        max_images=600,
        interval=10),
    logger=dict(interval=44),
    checkpoint=dict(interval=5, max_keep_ckpts=1))
