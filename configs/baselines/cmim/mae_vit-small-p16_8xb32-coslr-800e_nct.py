"""MAE, ViT-S/16, 800 epochs on NCT-CRC-HE-100K (Table 1).

mmpretrain's MAE with the rates and masks of its paper; size of the batch,
epochs and data are CMIM's.

Learning rate 1.5e-4 for batches of 8 x 32, 800 epochs, mask ratio 0.75;
data/NCT.
"""

_base_ = [
    'mmpretrain::_base_/models/mae_vit-base-p16.py',
    '../../_base_/datasets/nct_tiles_mim.py',
    '../../_base_/schedules/mim_adamw_800e.py',
    '../../_base_/masked_runtime.py',
]

# ========================== Possibly modified ==========================
mask_ratio = 0.75
# Mean and std per channel (R, G, B), ImageNet's as in ConCL.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]

# ====================== Unmodified in most cases =======================
model = dict(
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor', mean=mean, std=std),
    # ViT-S: mmpretrain's 'small' is 768 wide.
    backbone=dict(arch='deit-small', mask_ratio=mask_ratio),
    neck=dict(embed_dim=384))
