"""GlaS from CMIM with 20 % of the patches masked (Figure 4)."""

_base_ = './mask-rcnn_cmim-resnet18-fpn_8xb2-1x_glas.py'

checkpoint = ('work_dirs/cmim_mask-ratio-0.2_resnet18_8xb32-coslr-800e_nct/'
              'epoch_800.pth')

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
