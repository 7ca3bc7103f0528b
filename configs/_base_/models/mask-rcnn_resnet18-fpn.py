"""Mask R-CNN with ResNet-18 and FPN, as ConCL and CMIM fine-tune it.

mmdet's Mask R-CNN with what their Detectron2 recipe sets: nothing frozen,
BatchNorm synchronised over the GPUs in backbone and FPN, none in the heads,
and no low-quality matches in the RoI head. On one device MMEngine turns
SyncBN into BN.
"""

_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

# ========================= Frequently modified =========================
num_classes = 1
# Weights of the backbone; child configs set their own.
checkpoint = None

# ====================== Unmodified in most cases =======================
norm_cfg = dict(type='SyncBN', requires_grad=True)

model = dict(
    backbone=dict(
        depth=18,
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=norm_cfg,
        # Only seen when training from scratch; Detectron2 has no such thing.
        zero_init_residual=False,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    neck=dict(in_channels=[64, 128, 256, 512], norm_cfg=norm_cfg),
    roi_head=dict(
        bbox_head=dict(num_classes=num_classes),
        mask_head=dict(num_classes=num_classes)),
    train_cfg=dict(rcnn=dict(assigner=dict(match_low_quality=False))))
