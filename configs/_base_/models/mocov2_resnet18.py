"""MoCo v2 with a ResNet-18, as ConCL trains it."""

# ========================== Possibly modified ==========================
# Mean and std per channel (R, G, B), ImageNet's as in ConCL.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
# Keys in the queue, and the temperature of their softmax.
queue_len = 16384
temperature = 0.2

# ====================== Unmodified in most cases =======================
model = dict(
    type='MoCo',
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor', mean=mean, std=std),
    backbone=dict(
        type='ResNet',
        depth=18,
        norm_cfg=dict(type='BN'),
        zero_init_residual=False),
    neck=dict(
        type='MoCoV2Neck',
        in_channels=512,
        hid_channels=512,
        out_channels=128,
        with_avg_pool=True),
    head=dict(
        type='ContrastiveHead',
        loss=dict(type='CrossEntropyLoss'),
        temperature=temperature),
    queue_len=queue_len,
    feat_dim=128,
    # MoCo's 0.999: here it is the part that is new at each step.
    momentum=0.001)
