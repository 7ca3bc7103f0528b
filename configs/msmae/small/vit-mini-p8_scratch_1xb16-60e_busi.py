"""A supervised classifier of BUSI with the encoder of the small SETR.

Images of 128 pixels in patches of 8, a ViT of width 192 with 6 layers.
"""

_base_ = '../benchmarks/vit-base-p16_scratch_1xb256-300e_busi.py'

# ========================= Frequently modified =========================
max_epochs = 60
batch_size = 16
base_lr = 5e-4

# ========================== Possibly modified ==========================
image_size = 128
patch_size = 8
arch = dict(
    embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768)
num_workers = 0

# ====================== Unmodified in most cases =======================
load_image, crop, flip, pack_image = _base_.train_pipeline
train_pipeline = [load_image, dict(crop, scale=image_size), flip, pack_image]
test_pipeline = [
    load_image,
    dict(_base_.test_pipeline[1], scale=image_size),
    _base_.test_pipeline[2],
]
loader = dict(
    batch_size=batch_size, num_workers=num_workers, persistent_workers=False)
train_dataloader = dict(**loader, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(**loader, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, **arch),
        img_size=image_size,
        patch_size=patch_size),
    head=dict(in_channels=arch['embed_dims']))
optim_wrapper = dict(optimizer=dict(lr=base_lr))
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(checkpoint=dict(interval=max_epochs))
auto_scale_lr = dict(base_batch_size=batch_size)
