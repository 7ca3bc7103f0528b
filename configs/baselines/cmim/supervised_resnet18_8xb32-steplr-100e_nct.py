"""ResNet-18 trained to tell NCT-CRC's nine tissues apart (Table 1), as ConCL
trains it.

Learning rate 0.1 for batches of 8 x 32, 100 epochs; data/NCT.
"""

_base_ = [
    '../../_base_/datasets/nct_tiles_cls.py',
    '../../_base_/schedules/nct_supervised_sgd_100e.py',
    '../../_base_/pretrain_runtime.py',
]

# ========================== Possibly modified ==========================
# Mean and std per channel (R, G, B), ImageNet's as in ConCL.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]

# ====================== Unmodified in most cases =======================
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor', mean=mean, std=std, to_rgb=False),
    backbone=dict(
        type='ResNet',
        depth=18,
        norm_cfg=dict(type='SyncBN'),
        zero_init_residual=False),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=_base_.num_classes,
        in_channels=512,
        loss=dict(type='CrossEntropyLoss')))
