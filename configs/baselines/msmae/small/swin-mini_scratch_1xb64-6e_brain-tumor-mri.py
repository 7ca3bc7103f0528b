"""A small Swin transformer on Brain Tumor MRI, from scratch."""

_base_ = './swin-mini_simmim_1xb64-6e_brain-tumor-mri.py'

model = dict(backbone=dict(init_cfg=None))
default_hooks = dict(load_check=dict(allow_scratch=True))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
