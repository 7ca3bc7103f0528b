"""Supervised ViT-B/16 on Brain Tumor MRI: from scratch, on all tokens.

The paper's recipe is not given; this is fine-tuning's, without the lower rates
for lower layers, and as long as pre-training.
"""

_base_ = './vit-base-p16_msmae_1xb256-100e_brain-tumor-mri.py'

model = dict(
    backbone=dict(init_cfg=None), mask_ratio=0.0, throw_ratio=0.0)
default_hooks = dict(
    attention_mask=None,
    load_check=dict(allow_scratch=True))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
train_cfg = dict(max_epochs=300)
