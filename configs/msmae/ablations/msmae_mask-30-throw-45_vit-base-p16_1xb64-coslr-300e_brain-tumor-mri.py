"""Table 8c, Brain Tumor MRI: 30 % masked, 45 % thrown."""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri.py'

model = dict(mask_ratio=0.30, throw_ratio=0.45)
