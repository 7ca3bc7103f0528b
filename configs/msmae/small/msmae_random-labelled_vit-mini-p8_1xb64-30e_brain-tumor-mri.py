"""Control: random masks of MAE with the class loss of MSMAE."""

_base_ = './msmae_vit-mini-p8_1xb64-30e_brain-tumor-mri.py'

default_hooks = dict(
    attention_mask=None)
