"""Table 8a, Brain Tumor MRI: a batch of 256 in pre-training."""

_base_ = '../benchmarks/vit-base-p16_msmae_1xb256-100e_brain-tumor-mri.py'

checkpoint = (
    'work_dirs/msmae_vit-base-p16_1xb256-coslr-300e_'
    'brain-tumor-mri/epoch_300.pth')

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
