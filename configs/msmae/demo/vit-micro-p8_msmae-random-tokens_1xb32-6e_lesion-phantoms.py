"""Fine-tuning at the size of the demo, after MSMAE on drawn lesions.

Trained on 16 of 64 tokens that are drawn at random (F-RM in the paper's Table
3), tested on all. Attention would hide the one patch that tells the class.
"""

_base_ = [
    '../../_base_/models/vit-base-p16_msmae-cls.py',
    '../../_base_/schedules/msmae_adamw_finetune_100e.py',
    '../../_base_/msmae_finetune_runtime.py',
]

# ========================= Frequently modified =========================
# Both are written by tools/demo.py.
checkpoint = 'demo_output/msmae/pretraining/epoch_12.pth'
data_root = 'demo_output/data/lesion_phantoms/'
max_epochs = 6
batch_size = 32
base_lr = 1e-3

# ========================== Possibly modified ==========================
image_size = 64
patch_size = 8
num_classes = 4
arch = dict(
    embed_dims=64, num_layers=1, num_heads=2, feedforward_channels=256)
crop_ratio_range = (0.6, 1.0)
mean = [159.0, 97.0, 79.0]
std = [39.0, 30.0, 27.0]

# ====================== Unmodified in most cases =======================
load_image = dict(type='mmmedmask.LoadTile')
pack_image = dict(
    type='mmmedmask.PackTile',
    meta_keys=('img_path', 'sample_idx', 'ori_shape', 'crop_box', 'flip',
               'flip_direction'))
train_pipeline = [
    load_image,
    dict(
        type='mmmedmask.RandomResizedCrop',
        scale=image_size,
        crop_ratio_range=crop_ratio_range),
    dict(type='mmmedmask.RandomFlip', prob=0.5),
    pack_image,
]
test_pipeline = [
    load_image,
    dict(type='mmmedmask.ResizeImage', scale=image_size),
    dict(
        type='mmmedmask.PackTile',
        meta_keys=('img_path', 'sample_idx', 'ori_shape', 'group')),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmmedmask.LabelledImages',
        data_root=data_root,
        split='train',
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=128,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmmedmask.LabelledImages',
        data_root=data_root,
        split='val',
        pipeline=test_pipeline,
        test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmmedmask.DiseaseClassification', data_root=data_root)
test_evaluator = val_evaluator
model = dict(
    data_preprocessor=dict(mean=mean, std=std),
    backbone=dict(
        arch=dict(_delete_=True, **arch),
        img_size=image_size,
        patch_size=patch_size,
        drop_path_rate=0.0,
        # One patch of 64 decides: a mean over all would drown it.
        out_type='cls_token',
        final_norm=True,
        init_cfg=dict(checkpoint=checkpoint)),
    head=dict(num_classes=num_classes, in_channels=arch['embed_dims']),
    masking='random')
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        by_epoch=True,
        end=1,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        by_epoch=True,
        begin=1,
        convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
default_hooks = dict(
    logger=dict(interval=4),
    checkpoint=dict(interval=max_epochs, save_best=None),
    load_check=dict(allowed_missing=[], allowed_unused=[]))
log_processor = dict(window_size=4)
