"""GlaS from supervised weights (Table 1)."""

_base_ = \
    '../../../cmim/benchmarks/mask-rcnn_cmim-resnet18-fpn_8xb2-1x_glas.py'

checkpoint = ('work_dirs/supervised_resnet18_8xb32-steplr-100e_nct/'
              'epoch_100.pth')

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
