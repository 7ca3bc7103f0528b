"""SETR-PUP on BUSI from MSMAE weights, at a size for two CPU cores.

Images of 128 pixels in patches of 8, a ViT of width 192 with 6 layers, heads
of 64 channels.
"""

_base_ = '../benchmarks/setr-pup_msmae-vit-base-p16_1xb8-200e_busi.py'

# ========================= Frequently modified =========================
# Its encoder has the same image size, patch size and arch.
checkpoint = 'work_dirs/msmae_vit-mini-p8_1xb16-200e_busi/epoch_200.pth'
max_epochs = 60
base_lr = 3e-4
val_interval = 5
num_workers = 1

# ========================== Possibly modified ==========================
img_size = 128  # pixels, a side of the square
patch_size = 8
arch = dict(
    embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768)
out_indices = (1, 2, 3, 5)
channels = 64

# ====================== Unmodified in most cases =======================
head = dict(in_channels=arch['embed_dims'], channels=channels)
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, **arch),
        img_size=img_size,
        patch_size=patch_size,
        out_indices=out_indices,
        init_cfg=dict(checkpoint=checkpoint)),
    # Three times twice is the patch size.
    decode_head=dict(**head, num_convs=3),
    auxiliary_head=[
        dict(auxiliary, **head) for auxiliary in _base_.model.auxiliary_head
    ])

resize = dict(_base_.resize, scale=(img_size, img_size))
train_pipeline = [
    _base_.load_image, _base_.load_mask, _base_.rotate, resize, _base_.pack
]
test_pipeline = [_base_.load_image, resize, _base_.load_mask, _base_.pack]
tta_pipeline = [
    _base_.load_image,
    dict(
        type='TestTimeAug',
        transforms=[[resize], _base_.flips, [_base_.load_mask],
                    [_base_.pack_turned]])
]
train_dataloader = dict(
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(official_size=(img_size, img_size))
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=base_lr))
train_cfg = dict(max_epochs=max_epochs, val_interval=val_interval)
default_hooks = dict(logger=dict(interval=7))
log_processor = dict(window_size=7)
