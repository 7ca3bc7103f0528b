"""Table 8d, Brain Tumor MRI: new maps every 60 epochs of pre-training."""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri.py'

default_hooks = dict(attention_mask=dict(interval=60))
