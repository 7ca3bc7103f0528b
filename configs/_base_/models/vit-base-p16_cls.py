"""ViT-B/16 that classifies by its class token, on all tokens.

The number of classes is that of the data set: a child sets
``model.head.num_classes``. MSMAE's own, which can leave tokens out, is in
``vit-base-p16_msmae-cls.py``.
"""

# ========================= Frequently modified =========================
# Weights of the backbone; child configs set their own.
checkpoint = None

# ========================== Possibly modified ==========================
# As in pre-training.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
drop_path_rate = 0.1
label_smoothing = 0.1

# ====================== Unmodified in most cases =======================
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor', mean=mean, std=std, to_rgb=False),
    backbone=dict(
        type='VisionTransformer',
        arch='base',
        img_size=224,
        patch_size=16,
        drop_path_rate=drop_path_rate,
        out_type='cls_token',
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    neck=None,
    head=dict(
        type='VisionTransformerClsHead',
        num_classes=2,
        in_channels=768,
        loss=dict(
            type='LabelSmoothLoss',
            label_smooth_val=label_smoothing,
            mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5)))
