"""CRAG with a ResNet-34 (Table 5)."""

_base_ = './mask-rcnn_cmim-resnet18-fpn_8xb2-1x_crag.py'

checkpoint = 'work_dirs/cmim_resnet34_8xb32-coslr-800e_nct/epoch_800.pth'

model = dict(
    backbone=dict(depth=34, init_cfg=dict(checkpoint=checkpoint)))
