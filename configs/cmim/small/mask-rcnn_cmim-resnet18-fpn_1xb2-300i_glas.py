"""Mask R-CNN on GlaS at a size for two CPU cores (docs/results.md).

Half the resolution of the full recipe, 300 iterations of 2 images, 64 RoIs
per image in the place of 512, bfloat16 on the CPU.
"""

_base_ = '../benchmarks/mask-rcnn_cmim-resnet18-fpn_8xb2-1x_glas.py'

# ========================= Frequently modified =========================
checkpoint = ('work_dirs/cmim_resnet18_1xb32-coslr-30e_he-tiles/'
              'epoch_30.pth')
data_root = 'data/glas/'
max_iters = 300
base_lr = 0.01
num_workers = 1

# ========================== Possibly modified ==========================
# (longer, shorter) edge; GlaS pictures measure 775 x 522.
train_scale = [(667, 200), (667, 261)]
test_scale = (667, 261)

# ====================== Unmodified in most cases =======================
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='LoadAnnotations',
        with_bbox=True,
        with_mask=True,
        poly2mask=True),
    dict(type='RandomResize', scale=train_scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=test_scale, keep_ratio=True),
    dict(
        type='LoadAnnotations',
        with_bbox=True,
        with_mask=True,
        poly2mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor')),
]
model = dict(
    backbone=dict(init_cfg=dict(checkpoint=checkpoint)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64))))
train_dataloader = dict(
    num_workers=num_workers,
    dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=num_workers,
    dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/test.json')
test_evaluator = val_evaluator
optim_wrapper = dict(
    type='mmmedmask.Bfloat16OptimWrapper', optimizer=dict(lr=base_lr))
auto_scale_lr = dict(base_batch_size=2)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(
        type='MultiStepLR',
        milestones=[240],
        gamma=0.1,
        by_epoch=False)
]
default_hooks = dict(
    checkpoint=dict(interval=max_iters),
    precise_bn=dict(num_batches=20))
