"""The small Mask R-CNN on GlaS from random weights."""

_base_ = './mask-rcnn_cmim-resnet18-fpn_1xb2-300i_glas.py'

model = dict(backbone=dict(init_cfg=None))
default_hooks = dict(load_check=dict(allow_scratch=True))
