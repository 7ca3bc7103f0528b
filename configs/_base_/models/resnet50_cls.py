"""ResNet-50 that classifies.

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
label_smoothing = 0.1

# ====================== Unmodified in most cases =======================
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor', mean=mean, std=std, to_rgb=False),
    backbone=dict(
        type='ResNet',
        depth=50,
        norm_cfg=dict(type='BN'),
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=2,
        in_channels=2048,
        loss=dict(
            type='LabelSmoothLoss',
            label_smooth_val=label_smoothing,
            mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5)))
