"""ViT-B/16 on Brain Tumor MRI from AMT, on all tokens."""

_base_ = './vit-base-p16_msmae_1xb256-100e_brain-tumor-mri.py'

checkpoint = ('work_dirs/amt_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri/'
              'epoch_300.pth')

model = dict(
    backbone=dict(init_cfg=dict(checkpoint=checkpoint)),
    mask_ratio=0.0,
    throw_ratio=0.0)
default_hooks = dict(
    attention_mask=None)
