"""Table 8d, Brain Tumor MRI: new maps every 20 epochs of pre-training."""

_base_ = '../benchmarks/vit-base-p16_msmae_1xb256-100e_brain-tumor-mri.py'

checkpoint = (
    'work_dirs/msmae_interval-20_vit-base-p16_1xb64-coslr-300e_'
    'brain-tumor-mri/epoch_300.pth')

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
