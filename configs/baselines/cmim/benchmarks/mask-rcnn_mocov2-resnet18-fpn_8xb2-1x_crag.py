"""CRAG from MoCo v2 weights (Table 1)."""

_base_ = \
    '../../../cmim/benchmarks/mask-rcnn_cmim-resnet18-fpn_8xb2-1x_crag.py'

checkpoint = 'work_dirs/mocov2_resnet18_8xb32-coslr-800e_nct/epoch_800.pth'

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
