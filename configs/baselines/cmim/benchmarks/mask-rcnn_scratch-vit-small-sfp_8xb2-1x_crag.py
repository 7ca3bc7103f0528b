"""CRAG, ViT-S/16 from scratch: what pre-training is compared with.

All layers get the full rate: to go easy on lower layers makes sense for
pre-trained ones alone.
"""

_base_ = './mask-rcnn_mae-vit-small-sfp_8xb2-1x_crag.py'

model = dict(backbone=dict(init_cfg=None))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
default_hooks = dict(load_check=dict(allow_scratch=True))
