"""MSMAE at the size of the demo: a quarter of a minute on two CPU cores.

Drawn scans of 64 pixels in patches of 8 (an 8 x 8 grid: 28 masked, 20 thrown,
16 visible), whose class is one lesion of the size of a patch; a ViT of width
64 with one layer. 8 epochs mask at random, 4 by attention.

Learning rate 3e-3 for batches of 1 x 16, 12 epochs, mask ratio 0.45;
demo_output/data/lesion_phantoms.
"""

_base_ = [
    '../../_base_/models/msmae_vit-base-p16.py',
    '../../_base_/datasets/labelled_images_pretrain.py',
    '../../_base_/schedules/msmae_adamw_300e.py',
    '../../_base_/msmae_runtime.py',
]

# ========================= Frequently modified =========================
# Written by tools/demo.py.
data_root = 'demo_output/data/lesion_phantoms/'
max_epochs = 12
# First epoch with attention masks, and epochs from one refresh to the next.
begin = 8
interval = 2
batch_size = 16
base_lr = 3e-3

# ========================== Possibly modified ==========================
image_size = 64
patch_size = 8
num_classes = 4
# One layer: with more, the class token can collect the lesion in an early one,
# and the map of the last, which masks, need not show it.
arch = dict(
    embed_dims=64, num_layers=1, num_heads=2, feedforward_channels=256)
# There are seconds, not days: the class counts in full in place of a tenth,
# and a lesion is visible in every second view in place of every fourth.
cls_weight = 1.0
random_mask_ratio = 0.5
crop_ratio_range = (0.6, 1.0)
# Mean and std of the images.
mean = [159.0, 97.0, 79.0]
std = [39.0, 30.0, 27.0]
panel_interval = 4

# ====================== Unmodified in most cases =======================
crop_image = dict(
    _base_.crop_image, scale=image_size, crop_ratio_range=crop_ratio_range)
resize_image = dict(
    _base_.resize_image, scale=image_size, interpolation='bicubic')
train_dataloader = dict(
    batch_size=batch_size,
    # Images are small; workers would take a core away.
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        pipeline=[
            _base_.load_image, crop_image, _base_.flip_image,
            _base_.pack_image
        ]))
model = dict(
    data_preprocessor=dict(mean=mean, std=std),
    backbone=dict(
        arch=dict(_delete_=True, **arch),
        img_size=image_size,
        patch_size=patch_size),
    neck=dict(embed_dims=32, num_layers=1, num_heads=4),
    head=dict(cls_weight=cls_weight, num_classes=num_classes),
    random_mask_ratio=random_mask_ratio)
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [
    dict(_base_.warm_up, start_factor=0.01, end=1),
    dict(_base_.cosine, begin=1),
]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
default_hooks = dict(
    logger=dict(interval=4),
    probe=dict(
        type='mmmedmask.ProbeHook', max_images=160, interval=max_epochs),
    checkpoint=dict(interval=max_epochs, max_keep_ckpts=1),
    attention_mask=dict(
        begin=begin,
        interval=interval,
        batch_size=128,
        pipeline=[_base_.load_image, resize_image, _base_.pack_image]),
    attention_panel=dict(interval=panel_interval),
    lesion_coverage=dict(type='mmmedmask.LesionCoverageHook', num_images=192))
log_processor = dict(window_size=4)
