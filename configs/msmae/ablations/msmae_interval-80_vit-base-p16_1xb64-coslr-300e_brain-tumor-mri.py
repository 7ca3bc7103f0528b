"""Table 8d, Brain Tumor MRI: new maps every 80 epochs of pre-training."""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri.py'

custom_hooks = [dict(_base_.attention_mask, interval=80)]
