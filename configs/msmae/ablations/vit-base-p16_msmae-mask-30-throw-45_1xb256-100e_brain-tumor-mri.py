"""Table 8c, Brain Tumor MRI: fine-tuned with 30 % masked, 45 % thrown."""

_base_ = '../benchmarks/vit-base-p16_msmae_1xb256-100e_brain-tumor-mri.py'

checkpoint = (
    'work_dirs/msmae_mask-30-throw-45_vit-base-p16_1xb64-coslr-300e_'
    'brain-tumor-mri/epoch_300.pth')

model = dict(
    backbone=dict(init_cfg=dict(checkpoint=checkpoint)),
    mask_ratio=0.30,
    throw_ratio=0.45)
