"""MoCo v3 at a size for CPU cores, on Brain Tumor MRI.

Views of 64 pixels in patches of 8, a ViT of width 128 with 6 layers,
projections of 512 channels, 30 epochs.
"""

_base_ = '../mocov3_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri.py'

# ========================= Frequently modified =========================
max_epochs = 30
# Higher than the paper's sizes have it, for a tenth of the epochs.
base_lr = 3e-4

# ========================== Possibly modified ==========================
image_size = 64
arch = dict(
    embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512)
patch_size = 8
num_workers = 0
warmup_epochs = 4

# ====================== Unmodified in most cases =======================
crop = dict(_base_.crop, scale=image_size)
views_pipeline = [
    _base_.load_view,
    dict(
        type='MultiView',
        num_views=[1, 1],
        transforms=[[crop, *_base_.first_view], [crop, *_base_.second_view]]),
    _base_.pack_views,
]
train_dataloader = dict(
    num_workers=num_workers,
    persistent_workers=False,
    dataset=dict(pipeline=views_pipeline))
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, **arch),
        img_size=image_size,
        patch_size=patch_size),
    neck=dict(in_channels=arch['embed_dims'], hid_channels=512),
    head=dict(predictor=dict(hid_channels=512)))
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
