"""Swin-T that classifies, windows of 7 at 224 pixels.

The number of classes is that of the data set: a child sets
``model.head.num_classes``.
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
        type='SwinTransformer',
        arch='tiny',
        img_size=224,
        drop_path_rate=drop_path_rate,
        stage_cfgs=dict(block_cfgs=dict(window_size=7)),
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=2,
        in_channels=768,
        loss=dict(
            type='LabelSmoothLoss',
            label_smooth_val=label_smoothing,
            mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5)),
    # What a checkpoint does not bring; the backbone's comes afterwards.
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0)
    ])
