"""MoCo v1, ResNet-18, 200 epochs on NCT-CRC-HE-100K, as ConCL trains it.

Learning rate 0.03 for batches of 8 x 32, 200 epochs; data/NCT.
"""

_base_ = [
    '../../_base_/datasets/nct_tiles_mocov1.py',
    '../../_base_/schedules/concl_sgd_200e.py',
    '../../_base_/pretrain_runtime.py',
]

# ========================= Frequently modified =========================
# Epochs at which the rate is divided by 10, in runs of any length.
milestones = [120, 160]

# ========================== Possibly modified ==========================
# Mean and std per channel (R, G, B), ImageNet's as in ConCL.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
# Keys in the queue, and the temperature of their softmax.
queue_len = 16384
temperature = 0.07

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
        type='LinearNeck',
        in_channels=512,
        out_channels=128,
        # Averages the map first.
        gap_dim=2,
        norm_cfg=None),
    head=dict(
        type='ContrastiveHead',
        loss=dict(type='CrossEntropyLoss'),
        temperature=temperature),
    queue_len=queue_len,
    feat_dim=128,
    # MoCo's 0.999: here it is the part that is new at each step.
    momentum=0.001)
steps = dict(
    type='MultiStepLR', milestones=milestones, gamma=0.1, by_epoch=True)
param_scheduler = [steps]
