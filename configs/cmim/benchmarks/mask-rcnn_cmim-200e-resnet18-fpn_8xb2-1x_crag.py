"""CRAG from CMIM pre-trained for 200 epochs (Table 4)."""

_base_ = './mask-rcnn_cmim-resnet18-fpn_8xb2-1x_crag.py'

checkpoint = 'work_dirs/cmim_resnet18_8xb32-coslr-200e_nct/epoch_200.pth'

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
