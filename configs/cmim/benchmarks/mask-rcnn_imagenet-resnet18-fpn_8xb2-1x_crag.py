"""CRAG from torchvision's ImageNet weights, which are downloaded."""

_base_ = './mask-rcnn_cmim-resnet18-fpn_8xb2-1x_crag.py'

checkpoint = 'torchvision://resnet18'

model = dict(
    backbone=dict(init_cfg=dict(checkpoint=checkpoint, prefix=None)))
# The classifier stays behind.
default_hooks = dict(load_check=dict(allowed_unused=['fc.*']))
