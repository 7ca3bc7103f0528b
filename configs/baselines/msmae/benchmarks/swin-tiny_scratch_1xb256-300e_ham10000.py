"""Swin-T on HAM10000, from scratch, as long as the ViT-B."""

_base_ = './swin-tiny_simmim_1xb256-100e_ham10000.py'

model = dict(backbone=dict(init_cfg=None))
default_hooks = dict(load_check=dict(allow_scratch=True))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
train_cfg = dict(max_epochs=300)
