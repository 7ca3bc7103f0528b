"""MSMAE at a size that one CPU core trains in a quarter of an hour.

Images of 64 pixels in patches of 8 (an 8 x 8 grid: 28 masked, 20 thrown, 16
visible), a ViT of width 128 with 6 layers, 30 epochs of which the first 10
mask at random. docs/results/msmae.md has what came of it.
"""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri.py'

# ========================= Frequently modified =========================
max_epochs = 30
# First epoch with attention masks, and epochs between two refreshes.
begin = 10
interval = 10
base_lr = 5e-4

# ========================== Possibly modified ==========================
image_size = 64
patch_size = 8
arch = dict(
    embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512)
num_workers = 0
warmup_epochs = 4

# ====================== Unmodified in most cases =======================
crop_image = dict(_base_.crop_image, scale=image_size)
resize_image = dict(
    _base_.resize_image, scale=image_size, interpolation='bicubic')
train_dataloader = dict(
    num_workers=num_workers,
    persistent_workers=False,
    dataset=dict(
        pipeline=[
            _base_.load_image, crop_image, _base_.flip_image,
            _base_.pack_image
        ]))
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, **arch),
        img_size=image_size,
        patch_size=patch_size),
    neck=dict(embed_dims=64, num_layers=2, num_heads=4))
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
    checkpoint=dict(interval=5, max_keep_ckpts=1),
    attention_panel=None,
    attention_mask=dict(
        begin=begin,
        interval=interval,
        pipeline=[_base_.load_image, resize_image, _base_.pack_image],
        num_workers=num_workers))
