"""The supervised row at the small size: all tokens, nothing pre-trained."""

_base_ = './vit-mini-p8_all-tokens_1xb64-6e_brain-tumor-mri.py'

model = dict(backbone=dict(init_cfg=None))
# Without layer-wise decay, which is for pre-trained layers.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
default_hooks = dict(load_check=dict(allow_scratch=True))
