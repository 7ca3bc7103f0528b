"""Mask R-CNN on the dilated res5 (DC5) of a ResNet-18.

DC5 is CMIM's own addition to ConCL's detectors, and Detectron2 refuses to
dilate res5 of a ResNet-18 or 34; what the authors did is not said. Ours:
res5 keeps stride 16 and is dilated by 2. In basic blocks mmdet dilates the
first convolution only. RPN and proposals follow Detectron2's DC5 base.
"""

_base_ = './mask-rcnn_resnet18-fpn.py'

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=dict(
        strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), out_indices=(3, )),
    neck=None,
    rpn_head=dict(
        in_channels=512,
        feat_channels=512,
        anchor_generator=dict(scales=[2, 4, 8, 16, 32], strides=[16])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=512, featmap_strides=[16]),
        bbox_head=dict(in_channels=512),
        mask_roi_extractor=dict(out_channels=512, featmap_strides=[16]),
        mask_head=dict(in_channels=512)),
    train_cfg=dict(rpn_proposal=dict(nms_pre=12000, max_per_img=2000)),
    test_cfg=dict(rpn=dict(nms_pre=6000)))
