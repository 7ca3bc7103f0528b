"""CRAG from scratch: what CMIM's weights are compared with."""

_base_ = './mask-rcnn_cmim-resnet18-fpn_8xb2-1x_crag.py'

model = dict(backbone=dict(init_cfg=None))
default_hooks = dict(load_check=dict(allow_scratch=True))
