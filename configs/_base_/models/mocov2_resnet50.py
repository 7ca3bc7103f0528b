"""MoCo v2 with a ResNet-50, for a few thousand images."""

# ========================= Frequently modified =========================
# Keys that wait as negatives: fewer than an epoch of the smallest data set
# (1,216 of Messidor-2), so that one of an image is hardly ever a negative of
# this image; a multiple of the total batch. ImageNet has 65,536.
queue_len = 1024

# ========================== Possibly modified ==========================
# As in fine-tuning.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
feature_channels = 128
temperature = 0.2

# ====================== Unmodified in most cases =======================
model = dict(
    type='MoCo',
    queue_len=queue_len,
    feat_dim=feature_channels,
    momentum=0.001,
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor', mean=mean, std=std, to_rgb=True),
    backbone=dict(
        type='ResNet',
        depth=50,
        norm_cfg=dict(type='BN'),
        zero_init_residual=False),
    neck=dict(
        type='MoCoV2Neck',
        in_channels=2048,
        hid_channels=2048,
        out_channels=feature_channels,
        with_avg_pool=True),
    head=dict(
        type='ContrastiveHead',
        loss=dict(type='CrossEntropyLoss'),
        temperature=temperature))
