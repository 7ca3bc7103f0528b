"""SimCLR, ResNet-18, 200 epochs on NCT-CRC-HE-100K, as ConCL trains it."""

_base_ = [
    '../../_base_/datasets/nct_tiles_simclr.py',
    '../../_base_/schedules/contrastive_lars_200e.py',
    '../../_base_/pretrain_runtime.py',
]

# ========================== Possibly modified ==========================
# Mean and std per channel (R, G, B), ImageNet's as in ConCL.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
temperature = 0.1

# ====================== Unmodified in most cases =======================
model = dict(
    type='SimCLR',
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor', mean=mean, std=std),
    backbone=dict(
        type='ResNet',
        depth=18,
        norm_cfg=dict(type='SyncBN'),
        zero_init_residual=False),
    neck=dict(
        type='NonLinearNeck',
        in_channels=512,
        hid_channels=512,
        out_channels=128,
        num_layers=2,
        with_avg_pool=True),
    head=dict(
        type='ContrastiveHead',
        loss=dict(type='CrossEntropyLoss'),
        temperature=temperature))
