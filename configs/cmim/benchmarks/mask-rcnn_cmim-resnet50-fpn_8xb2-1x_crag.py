"""CRAG with a ResNet-50 (Table 5)."""

_base_ = './mask-rcnn_cmim-resnet18-fpn_8xb2-1x_crag.py'

checkpoint = 'work_dirs/cmim_resnet50_8xb32-coslr-800e_nct/epoch_800.pth'

model = dict(
    backbone=dict(depth=50, init_cfg=dict(checkpoint=checkpoint)),
    neck=dict(in_channels=[256, 512, 1024, 2048]))
