"""ViT-B/16 that classifies; trained on the tokens that MSMAE leaves visible.

Validation and test see all tokens. Image size and number of classes are those
of the data set: a child sets ``model.backbone.img_size`` and
``model.head.num_classes``.
"""

# ========================= Frequently modified =========================
# Weights of the backbone; child configs set their own.
checkpoint = None
# Side of a patch in pixels, or (h, w).
patch_size = 16
# Shares of the tokens that are left out of training; 0 and 0 train on all.
mask_ratio = 0.45
throw_ratio = 0.30

# ========================== Possibly modified ==========================
# As in pre-training.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
weight_norm = 'per_head'
drop_path_rate = 0.1
label_smoothing = 0.1

# ====================== Unmodified in most cases =======================
model = dict(
    type='mmmedmask.MSMAEClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor', mean=mean, std=std, to_rgb=False),
    backbone=dict(
        type='mmmedmask.MSMAEViT',
        arch='base',
        img_size=224,
        patch_size=patch_size,
        in_channels=len(mean),
        drop_path_rate=drop_path_rate,
        # The mean of the patch tokens, then a norm (Algorithm 1).
        out_type='avg_featmap',
        final_norm=False,
        fixed_pos_embed=False,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    neck=None,
    head=dict(
        type='LinearClsHead',
        num_classes=2,
        in_channels=768,
        loss=dict(
            type='LabelSmoothLoss',
            label_smooth_val=label_smoothing,
            mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5)),
    mask_ratio=mask_ratio,
    throw_ratio=throw_ratio,
    weight_norm=weight_norm)
