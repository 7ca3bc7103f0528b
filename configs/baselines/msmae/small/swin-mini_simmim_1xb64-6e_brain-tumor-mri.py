"""A classifier from SimMIM at the small size, on Brain Tumor MRI."""

_base_ = '../benchmarks/swin-tiny_simmim_1xb256-100e_brain-tumor-mri.py'

# ========================= Frequently modified =========================
checkpoint = ('work_dirs/simmim_swin-mini_1xb64-30e_brain-tumor-mri/'
              'epoch_30.pth')
max_epochs = 6
batch_size = 64

# ========================== Possibly modified ==========================
image_size = 64
arch = dict(embed_dims=48, depths=[2, 2, 2], num_heads=[2, 4, 8])
window_size = 4
num_workers = 0
warmup_epochs = 1

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
        out_indices=(2, ),
        stage_cfgs=dict(block_cfgs=dict(window_size=window_size)),
        init_cfg=dict(checkpoint=checkpoint)),
    head=dict(in_channels=192))
param_scheduler = [
    dict(_base_.param_scheduler[0], end=warmup_epochs),
    dict(_base_.param_scheduler[1], begin=warmup_epochs),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(
    logger=dict(interval=44), checkpoint=dict(interval=max_epochs))
auto_scale_lr = dict(base_batch_size=batch_size)
