"""Mask R-CNN on all of GlaS at half the resolution, from CMIM on CRC5's tiles.

ResNet-18 of half the width, a pyramid and heads of 64 channels (256 as a rule
take nine tenths of a step's arithmetic beside so narrow a backbone), 1,000
iterations of 2 images in float32.
"""

_base_ = './mask-rcnn_cmim-resnet18-fpn_1xb2-300i_glas.py'

# ========================= Frequently modified =========================
checkpoint = ('work_dirs/cmim_resnet18-half_1xb32-adamw-20e_crc5/'
              'epoch_20.pth')
data_root = 'data/glas_half/'
max_iters = 1000
milestones = [800]
base_lr = 0.01
width = 64  # of the pyramid and of what reads it

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=dict(
        stem_channels=32, base_channels=32,
        init_cfg=dict(checkpoint=checkpoint)),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=width),
    rpn_head=dict(in_channels=width, feat_channels=width),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width),
        bbox_head=dict(in_channels=width, fc_out_channels=4 * width),
        mask_roi_extractor=dict(out_channels=width),
        mask_head=dict(in_channels=width, conv_out_channels=width)))
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + _base_.test_ann_file)
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=base_lr))
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(_base_.warm_up, end=_base_.warmup_iters),
    dict(_base_.steps, milestones=milestones),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
