"""Mask R-CNN with a ResNet-18-C4: res5 is the head of every RoI.

From mmdet's Mask R-CNN C4. Deviations from Detectron2's C4, which ConCL and
CMIM use: there, res5 of a ResNet-18 becomes three bottleneck blocks that no
ResNet-18 checkpoint fits and that start from scratch, with MoCo's extra
BatchNorm behind them. Here res5 is the ResNet-18's own layer4 and inherits
the pre-trained weights, without an extra norm.
"""

_base_ = 'mmdet::_base_/models/mask-rcnn_r50-caffe-c4.py'

# ========================= Frequently modified =========================
num_classes = 1
# Weights of the backbone and of res5; child configs set their own.
checkpoint = None

# ====================== Unmodified in most cases =======================
norm_cfg = dict(type='SyncBN', requires_grad=True)
init_cfg = dict(
    type='Pretrained', checkpoint=checkpoint, prefix='backbone.')

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True),
    backbone=dict(
        depth=18,
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=norm_cfg,
        style='pytorch',
        zero_init_residual=False,
        init_cfg=init_cfg),
    rpn_head=dict(in_channels=256, feat_channels=256),
    roi_head=dict(
        shared_head=dict(
            depth=18,
            style='pytorch',
            norm_cfg=norm_cfg,
            norm_eval=False,
            init_cfg=init_cfg),
        bbox_roi_extractor=dict(out_channels=256),
        bbox_head=dict(in_channels=512, num_classes=num_classes),
        mask_head=dict(in_channels=512, num_classes=num_classes)),
    # Detectron2 keeps anchors that cross the border.
    train_cfg=dict(rpn=dict(allowed_border=-1)))
