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
crop_image = dict(_base_.crop_image, scale=image_size)
resize_image = dict(_base_.resize_image, scale=image_size)
loader = dict(
    batch_size=batch_size, num_workers=num_workers, persistent_workers=False)
train_dataloader = dict(
    **loader,
    dataset=dict(
        pipeline=[
            _base_.load_image, crop_image, _base_.flip_image,
            _base_.pack_image
        ]))
val_dataloader = dict(
    **loader,
    dataset=dict(
        pipeline=[_base_.load_image, resize_image, _base_.pack_test_image]))
test_dataloader = val_dataloader
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, **arch),
        img_size=image_size,
        patch_size=patch_size),
    head=dict(in_channels=arch['embed_dims']))
optim_wrapper = dict(optimizer=dict(lr=base_lr))
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(
    # The control of MSMAE's attention maps.
    lesion_coverage=dict(
        type='mmmedmask.LesionCoverageHook',
        pipeline=[_base_.load_image, resize_image, _base_.pack_image],
        maps='class_activation',
        at_start=True))
auto_scale_lr = dict(base_batch_size=batch_size)
