"""ViT-S/16 trained to tell NCT-CRC's nine tissues apart (Table 1).

The paper does not say how; crops, flips and epochs are those of ConCL's
supervised ResNet-18.

Learning rate 2.5e-4 for batches of 8 x 32, 100 epochs; data/NCT.
"""

_base_ = [
    '../../_base_/datasets/nct_tiles_cls.py',
    '../../_base_/schedules/nct_supervised_adamw_100e.py',
    '../../_base_/pretrain_runtime.py',
]

# ========================== Possibly modified ==========================
drop_path_rate = 0.1
label_smoothing = 0.1
# Mean and std per channel (R, G, B), ImageNet's as in ConCL.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]

# ====================== Unmodified in most cases =======================
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor', mean=mean, std=std, to_rgb=False),
    backbone=dict(
        type='VisionTransformer',
        # ViT-S: mmpretrain's 'small' is 768 wide.
        arch='deit-small',
        img_size=_base_.image_size,
        patch_size=16,
        drop_path_rate=drop_path_rate,
        out_type='cls_token',
        init_cfg=[
            dict(type='TruncNormal', layer='Linear', std=0.02),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0)
        ]),
    neck=None,
    head=dict(
        type='LinearClsHead',
        num_classes=_base_.num_classes,
        in_channels=384,
        loss=dict(
            type='LabelSmoothLoss',
            label_smooth_val=label_smoothing,
            mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02)))
