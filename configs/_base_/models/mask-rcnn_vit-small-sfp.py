"""Mask R-CNN with a plain ViT-S/16 and a simple feature pyramid (ViTDet).

Backbone and pyramid are ViTDet's; RPN and heads are those of the ResNet-18
rows, so that they differ in nothing else. Four layers attend to the whole
image, the others within windows. ViTDet's relative positions, which the
pre-trained weights do not know, are left out.
"""

_base_ = './mask-rcnn_resnet18-fpn.py'

# ========================= Frequently modified =========================
# Weights of the backbone; child configs set their own.
checkpoint = None

# ========================== Possibly modified ==========================
drop_path_rate = 0.1
# Patches along a side of a window; None: all layers see the whole image.
window_size = 14

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmmedmask.WindowedViT',
        # ViT-S: mmpretrain's 'small' is 768 wide.
        arch='deit-small',
        # Of pre-training; positions are interpolated to each image's grid.
        img_size=224,
        patch_size=16,
        drop_path_rate=drop_path_rate,
        window_size=window_size,
        # The pyramid has norms of its own.
        final_norm=False,
        out_type='featmap',
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    neck=dict(
        _delete_=True,
        type='mmmedmask.SimpleFeaturePyramid',
        in_channels=384,
        out_channels=256,
        num_outs=5))
