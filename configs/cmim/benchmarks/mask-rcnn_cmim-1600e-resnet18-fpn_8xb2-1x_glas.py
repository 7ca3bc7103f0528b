"""GlaS from CMIM pre-trained for 1,600 epochs (Table 4)."""

_base_ = './mask-rcnn_cmim-resnet18-fpn_8xb2-1x_glas.py'

checkpoint = 'work_dirs/cmim_resnet18_8xb32-coslr-1600e_nct/epoch_1600.pth'

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
