"""Table 8c, Brain Tumor MRI: 75 % masked, 0 % thrown."""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri.py'

model = dict(mask_ratio=0.75, throw_ratio=0.00)
