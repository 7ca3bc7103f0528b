"""BYOL, ResNet-18, 200 epochs on NCT-CRC-HE-100K, as ConCL trains it.

Learning rate 0.2 for batches of 8 x 128, 200 epochs; data/NCT.
"""

_base_ = [
    '../../_base_/datasets/nct_tiles_byol.py',
    '../../_base_/schedules/contrastive_lars_200e.py',
    '../../_base_/pretrain_runtime.py',
]

# ========================= Frequently modified =========================
# For a total batch of 1,024; --auto-scale-lr scales it to yours.
base_lr = 0.2

# ========================== Possibly modified ==========================
# Mean and std per channel (R, G, B), ImageNet's as in ConCL.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
weight_decay = 1.5e-6
warmup_epochs = 2

# ====================== Unmodified in most cases =======================
model = dict(
    type='BYOL',
    # BYOL's 0.996, here the part that is new at each step; it falls to 0.
    base_momentum=0.004,
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor', mean=mean, std=std),
    backbone=dict(
        type='ResNet',
        depth=18,
        norm_cfg=dict(type='SyncBN'),
        zero_init_residual=False),
    # In ConCL the norms of projector and predictor are each GPU's own.
    neck=dict(
        type='NonLinearNeck',
        in_channels=512,
        hid_channels=512,
        out_channels=256,
        num_layers=2,
        with_bias=True,
        with_last_bn=False,
        with_last_bias=True,
        with_avg_pool=True,
        norm_cfg=dict(type='BN1d')),
    head=dict(
        type='LatentPredictHead',
        predictor=dict(
            type='NonLinearNeck',
            in_channels=256,
            hid_channels=512,
            out_channels=256,
            num_layers=2,
            with_bias=True,
            with_last_bn=False,
            with_last_bias=True,
            with_avg_pool=False,
            norm_cfg=dict(type='BN1d')),
        loss=dict(type='CosineSimilarityLoss')))
optim_wrapper = dict(
    optimizer=dict(lr=base_lr, weight_decay=weight_decay))
param_scheduler = [
    dict(_base_.warm_up, end=warmup_epochs),
    dict(_base_.cosine, begin=warmup_epochs),
]
