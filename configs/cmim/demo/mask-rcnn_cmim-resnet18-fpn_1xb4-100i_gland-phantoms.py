"""Mask R-CNN at the size of the demo: a minute on two CPU cores.

The benchmark config of GlaS on drawn glands of 160 pixels, with fewer RoIs,
narrower FPN and heads, and anchors that fit.
"""

_base_ = '../benchmarks/mask-rcnn_cmim-resnet18-fpn_8xb2-1x_glas.py'

# ========================= Frequently modified =========================
# Both are written by tools/demo.py.
checkpoint = 'demo_output/cmim/backbone.pth'
data_root = 'demo_output/data/gland_phantoms/'
max_iters = 100
batch_size = 4
base_lr = 0.02

# ========================== Possibly modified ==========================
# 256 and 512 in the benchmark, which take three times the time.
channels = 64
rois = 32

# ====================== Unmodified in most cases =======================
image_size = (160, 160)
flip = dict(
    _base_.flip, prob=0.75, direction=['horizontal', 'vertical', 'diagonal'])
resize = dict(_base_.resize, scale=image_size)

model = dict(
    backbone=dict(init_cfg=dict(checkpoint=checkpoint)),
    neck=dict(out_channels=channels),
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels),
        bbox_head=dict(in_channels=channels, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=channels),
        mask_head=dict(
            in_channels=channels, num_convs=2, conv_out_channels=channels)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=300, max_per_img=100),
        rcnn=dict(sampler=dict(num=rois))),
    test_cfg=dict(
        rpn=dict(nms_pre=300, max_per_img=100),
        rcnn=dict(max_per_img=40)))
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    **loader,
    batch_size=batch_size,
    dataset=dict(
        data_root=data_root,
        pipeline=[_base_.load_image, _base_.load_masks, flip, _base_.pack]))
val_dataloader = dict(
    **loader,
    dataset=dict(
        data_root=data_root,
        pipeline=[
            _base_.load_image, resize, _base_.load_masks, _base_.pack_test
        ]))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/test.json')
test_evaluator = val_evaluator
optim_wrapper = dict(
    optimizer=dict(lr=base_lr), clip_grad=dict(max_norm=10))
auto_scale_lr = dict(base_batch_size=batch_size)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=20),
    dict(
        type='CosineAnnealingLR',
        T_max=max_iters,
        end=max_iters,
        eta_min=base_lr / 100,
        by_epoch=False)
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(interval=max_iters),
    precise_bn=dict(num_batches=8))
log_processor = dict(window_size=1)
