"""Rows I to III of Table 3 at the small size: fine-tuned on all tokens."""

_base_ = './vit-mini-p8_msmae_1xb64-6e_brain-tumor-mri.py'

model = dict(mask_ratio=0.0, throw_ratio=0.0)
default_hooks = dict(
    attention_mask=None)
