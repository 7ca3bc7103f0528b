"""Table 8e, Brain Tumor MRI: new maps every 40 epochs of fine-tuning."""

_base_ = '../benchmarks/vit-base-p16_msmae_1xb256-100e_brain-tumor-mri.py'

default_hooks = dict(attention_mask=dict(interval=40))
