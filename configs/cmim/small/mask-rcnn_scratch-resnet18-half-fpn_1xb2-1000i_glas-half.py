"""The same Mask R-CNN from random weights."""

_base_ = './mask-rcnn_cmim-resnet18-half-fpn_1xb2-1000i_glas-half.py'

model = dict(backbone=dict(init_cfg=None))
default_hooks = dict(load_check=dict(allow_scratch=True))
