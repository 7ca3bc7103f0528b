"""Fine-tuned on as many tokens as F-SAM leaves visible, drawn by chance."""

_base_ = './vit-mini-p8_msmae_1xb64-6e_brain-tumor-mri.py'

model = dict(masking='random')
default_hooks = dict(
    attention_mask=None)
