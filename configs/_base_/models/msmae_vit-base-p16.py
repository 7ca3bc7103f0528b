"""MSMAE with a ViT-B/16 encoder, the model of the paper.

Image size and number of classes are those of the data set: a child sets
``model.backbone.img_size`` and ``model.head.num_classes``.
"""

# ========================= Frequently modified =========================
# Side of a patch in pixels, or (h, w).
patch_size = 16
# Shares of the tokens that are masked and thrown away once there are
# attention maps (Tables 4 and 8c).
mask_ratio = 0.45
throw_ratio = 0.30
# lambda in Eq. 3; 0 needs no labels, which is the masking of AMT.
cls_weight = 0.1

# ========================== Possibly modified ==========================
# Mean and std per channel in stored units; their number is the number of
# channels. These are ImageNet's.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
# Share of the tokens that are masked while there are no attention maps.
random_mask_ratio = 0.75
# Attention is brought to [0, 1] in each head, or after averaging the heads.
weight_norm = 'per_head'
# Targets normalised per patch.
norm_pix = False

# ====================== Unmodified in most cases =======================
model = dict(
    type='mmmedmask.MSMAE',
    data_preprocessor=dict(
        type='ClsDataPreprocessor', mean=mean, std=std, to_rgb=False),
    backbone=dict(
        type='mmmedmask.MSMAEViT',
        arch='base',
        img_size=224,
        patch_size=patch_size,
        in_channels=len(mean)),
    neck=dict(
        type='mmmedmask.MSMAEDecoder',
        embed_dims=512,
        num_layers=8,
        num_heads=16),
    head=dict(
        type='mmmedmask.MSMAEHead',
        norm_pix=norm_pix,
        cls_weight=cls_weight,
        num_classes=2),
    mask_ratio=mask_ratio,
    throw_ratio=throw_ratio,
    random_mask_ratio=random_mask_ratio,
    weight_norm=weight_norm,
    init_cfg=[
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0)
    ])
