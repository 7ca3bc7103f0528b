"""SparK, ResNet-18, 800 epochs on NCT-CRC-HE-100K (Tables 1 and 2).

mmpretrain's SparK in float32 with its authors' masks; size of the batch,
epochs and data are CMIM's.

Learning rate 1e-4 for batches of 8 x 32, 800 epochs, mask ratio 0.6; data/NCT.
"""

_base_ = [
    '../../_base_/datasets/nct_tiles_mim.py',
    '../../_base_/schedules/spark_lamb_800e.py',
    '../../_base_/masked_runtime.py',
]

# ========================== Possibly modified ==========================
# Mean and std per channel (R, G, B), ImageNet's as in ConCL.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
# Share of masked patches of 32 x 32 pixels.
mask_ratio = 0.6
# Statistics of the visible positions, for each GPU. Of the synchronised
# 'SparseSyncBatchNorm2d' MMEngine makes a norm of all positions where there
# is one device.
norm_cfg = dict(type='SparseBatchNorm2d')

# ====================== Unmodified in most cases =======================
model = dict(
    type='SparK',
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor', mean=mean, std=std),
    input_size=_base_.image_size,
    # Spelled as in mmpretrain.
    downsample_raito=32,
    mask_ratio=mask_ratio,
    enc_dec_norm_cfg=norm_cfg,
    # Width of the last stage.
    enc_dec_norm_dim=512,
    backbone=dict(
        type='SparseResNet',
        depth=18,
        out_indices=(0, 1, 2, 3),
        norm_cfg=norm_cfg,
        zero_init_residual=False),
    neck=dict(
        type='SparKLightDecoder',
        feature_dim=512,
        upsample_ratio=32,
        mid_channels=0,
        last_act=False),
    head=dict(
        type='SparKPretrainHead',
        loss=dict(type='PixelReconstructionLoss', criterion='L2'),
        norm_pix=True,
        patch_size=32))
