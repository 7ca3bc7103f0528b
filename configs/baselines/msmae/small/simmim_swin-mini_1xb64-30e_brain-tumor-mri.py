"""SimMIM at a size for CPU cores, on Brain Tumor MRI.

Images of 64 pixels, a Swin transformer of 3 stages of 2 blocks with windows of
4, 30 epochs.
"""

_base_ = '../simmim_swin-tiny_1xb64-coslr-300e_brain-tumor-mri.py'

# ========================= Frequently modified =========================
max_epochs = 30
# Higher than the paper's sizes have it, for a tenth of the epochs.
base_lr = 5e-4

# ========================== Possibly modified ==========================
image_size = 64
arch = dict(embed_dims=48, depths=[2, 2, 2], num_heads=[2, 4, 8])
window_size = 4
num_workers = 0
warmup_epochs = 4

# ====================== Unmodified in most cases =======================
crop = dict(_base_.crop, scale=image_size)
# 10 of 4 x 4 blocks.
mask = dict(_base_.mask, input_size=image_size, mask_patch_size=16)
masked_pipeline = [_base_.load_view, crop, _base_.flip, mask, _base_.pack]
train_dataloader = dict(
    num_workers=num_workers,
    persistent_workers=False,
    dataset=dict(pipeline=masked_pipeline))
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, **arch),
        img_size=image_size,
        out_indices=(2, ),
        stage_cfgs=dict(block_cfgs=dict(window_size=window_size))),
    neck=dict(in_channels=192, encoder_stride=16))
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
