"""MSMAE on BUSI at a size for one CPU core, before the small SETR.

Images of 128 pixels in patches of 8 (a 16 x 16 grid), a ViT of width 192
with 6 layers. docs/results/msmae.md has what came of it.
"""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_busi.py'

# ========================= Frequently modified =========================
max_epochs = 200
base_lr = 5e-4

# ========================== Possibly modified ==========================
image_size = 128
patch_size = 8
arch = dict(
    embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768)
batch_size = 16
num_workers = 0
warmup_epochs = 20

# ====================== Unmodified in most cases =======================
crop_image = dict(_base_.crop_image, scale=image_size)
resize_image = dict(_base_.resize_image, scale=image_size)
whole_image_pipeline = [_base_.load_image, resize_image, _base_.pack_image]
train_dataloader = dict(
    batch_size=batch_size,
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
    neck=dict(embed_dims=96, num_layers=2, num_heads=4))
optim_wrapper = dict(optimizer=dict(lr=base_lr))
auto_scale_lr = dict(base_batch_size=batch_size)
param_scheduler = [
    dict(_base_.warm_up, end=warmup_epochs),
    dict(_base_.cosine, begin=warmup_epochs),
]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(
    # Classes and lesions of the images that it trains on, tested on their
    # validation split.
    probe=dict(
        type='mmmedmask.ProbeHook',
        data=_base_.data_root,
        dense=_base_.data_root,
        size=image_size,
        dense_size=image_size,
        few=[20, None],
        interval=50),
    logger=dict(interval=3),
    checkpoint=dict(interval=20, max_keep_ckpts=1),
    attention_mask=dict(
        pipeline=whole_image_pipeline, num_workers=num_workers),
    attention_panel=dict(interval=50, pipeline=whole_image_pipeline),
    lesion_coverage=dict(pipeline=whole_image_pipeline, at_start=True))
log_processor = dict(window_size=3)
