"""AMT on Brain Tumor MRI: masks by attention, without labels."""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri.py'

model = dict(head=dict(cls_weight=0.0))
