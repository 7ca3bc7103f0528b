"""MSMAE at a size that one CPU core trains in a quarter of an hour.

Images of 64 pixels in patches of 8 (an 8 x 8 grid: 28 masked, 20 thrown, 16
visible), a ViT of width 128 with 6 layers, 30 epochs of which the first 10
mask at random. docs/results.md has what came of it.
"""

_base_ = '../../_base_/default_runtime.py'

# ========================= Frequently modified =========================
data_root = 'data/brain_tumor_mri'
split_folder = 'splits/official'
num_classes = 4
max_epochs = 30
# First epoch with attention masks, and epochs between two refreshes.
begin = 10
interval = 10
base_lr = 5e-4
cls_weight = 0.1

# ========================== Possibly modified ==========================
image_size = 64
patch_size = 8
arch = dict(
    embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512)
mask_ratio = 0.45
throw_ratio = 0.30
batch_size = 64
num_workers = 0
warmup_epochs = 4

# ====================== Unmodified in most cases =======================
load_image = dict(
    type='mmmedmask.LoadTile', in_channels=3, gray_to_rgb=True,
    drop_alpha=True)
pack_image = dict(
    type='mmmedmask.PackTile',
    meta_keys=('img_path', 'sample_idx', 'ori_shape', 'crop_box', 'flip',
               'flip_direction'))
train_pipeline = [
    load_image,
    dict(
        type='mmmedmask.RandomResizedCrop',
        scale=image_size,
        crop_ratio_range=(0.2, 1.0),
        interpolation='bicubic'),
    dict(type='mmmedmask.RandomFlip', prob=0.5),
    pack_image,
]
whole_image_pipeline = [
    load_image,
    dict(type='mmmedmask.ResizeImage', scale=image_size),
    pack_image,
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmmedmask.LabelledImages',
        data_root=data_root,
        split='train',
        split_folder=split_folder,
        pipeline=train_pipeline))

data_preprocessor = dict(
    type='ClsDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=False)
model = dict(
    type='mmmedmask.MSMAE',
    data_preprocessor=data_preprocessor,
    mask_ratio=mask_ratio,
    throw_ratio=throw_ratio,
    backbone=dict(
        type='mmmedmask.MSMAEViT',
        arch=arch,
        img_size=image_size,
        patch_size=patch_size),
    neck=dict(
        type='mmmedmask.MSMAEDecoder',
        embed_dims=64,
        num_layers=2,
        num_heads=4),
    head=dict(
        type='mmmedmask.MSMAEHead',
        cls_weight=cls_weight,
        num_classes=num_classes),
    init_cfg=[
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0)
    ])

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=base_lr, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys={
            'ln': dict(decay_mult=0.0),
            'bias': dict(decay_mult=0.0),
            'pos_embed': dict(decay_mult=0.0),
            'mask_token': dict(decay_mult=0.0),
            'cls_token': dict(decay_mult=0.0)
        }))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        by_epoch=True,
        end=warmup_epochs,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        eta_min=0.0,
        convert_to_iter_based=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
default_hooks = dict(
    logger=dict(interval=44),
    checkpoint=dict(interval=max_epochs, max_keep_ckpts=1))
custom_hooks = [
    dict(type='mmmedmask.TransformEpochHook'),
    dict(
        type='mmmedmask.AttentionMaskHook',
        begin=begin,
        interval=interval,
        pipeline=whole_image_pipeline),
]
