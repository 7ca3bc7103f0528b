"""F-SAM of Table 3 at the small size: fine-tuned on the visible tokens."""

_base_ = './msmae_vit-mini-p8_1xb64-30e_brain-tumor-mri.py'

# ========================= Frequently modified =========================
pretrained = 'work_dirs/msmae_vit-mini-p8_1xb64-30e_brain-tumor-mri/' \
    'epoch_30.pth'
max_epochs = 6
interval = 3
base_lr = 1e-3

# ========================== Possibly modified ==========================
layer_decay_rate = 0.75
warmup_epochs = 1
drop_path_rate = 0.1

# ====================== Unmodified in most cases =======================
data_root = {{_base_.data_root}}
split_folder = {{_base_.split_folder}}
whole_image_pipeline = {{_base_.whole_image_pipeline}}
# Intervals are drawn by group: copies of an image are one.
test_pipeline = [
    *_base_.whole_image_pipeline[:-1],
    dict(
        type='mmmedmask.PackTile',
        meta_keys=('img_path', 'sample_idx', 'ori_shape', 'group')),
]
val_dataloader = dict(
    batch_size=64,
    num_workers={{_base_.num_workers}},
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmmedmask.LabelledImages',
        data_root=data_root,
        split='val',
        split_folder=split_folder,
        pipeline=test_pipeline,
        test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmmedmask.DiseaseClassification', data_root=data_root)
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()

model = dict(
    _delete_=True,
    type='mmmedmask.MSMAEClassifier',
    data_preprocessor={{_base_.data_preprocessor}},
    mask_ratio={{_base_.mask_ratio}},
    throw_ratio={{_base_.throw_ratio}},
    backbone=dict(
        type='mmmedmask.MSMAEViT',
        arch={{_base_.arch}},
        img_size={{_base_.image_size}},
        patch_size={{_base_.patch_size}},
        drop_path_rate=drop_path_rate,
        out_type='avg_featmap',
        final_norm=False,
        fixed_pos_embed=False,
        init_cfg=dict(
            type='Pretrained', checkpoint=pretrained, prefix='backbone.')),
    head=dict(
        type='LinearClsHead',
        num_classes={{_base_.num_classes}},
        in_channels={{_base_.arch.embed_dims}},
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=[dict(type='TruncNormal', layer='Linear', std=2e-5)]))

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=base_lr, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='LearningRateDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=layer_decay_rate,
        custom_keys={
            '.ln': dict(decay_mult=0.0),
            '.bias': dict(decay_mult=0.0),
            '.cls_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0)
        }))
param_scheduler = [
    dict(_base_.param_scheduler[0], end=warmup_epochs),
    dict(
        _base_.param_scheduler[1],
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        eta_min=1e-6)
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(checkpoint=dict(interval=max_epochs))
load_check = dict(
    type='mmmedmask.LoadCheckHook',
    # The norm after pooling is new, the one before is not used.
    allowed_missing=['ln2.*'],
    allowed_unused=['ln1.*'])
custom_hooks = [
    load_check,
    dict(type='mmmedmask.TransformEpochHook'),
    dict(
        type='mmmedmask.AttentionMaskHook',
        begin=0,
        interval=interval,
        pipeline=whole_image_pipeline),
]
