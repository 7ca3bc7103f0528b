"""GlaS from ConCL's weights, the row of CMIM's Table 1."""

_base_ = '../../../cmim/benchmarks/mask-rcnn_cmim-resnet18-fpn_8xb2-1x_glas.py'

checkpoint = 'work_dirs/concl_resnet18_8xb32-coslr-800e_nct/epoch_800.pth'

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
