"""The small Mask R-CNN on GlaS from weights of the ablation emb. masking."""

_base_ = './mask-rcnn_cmim-resnet18-fpn_1xb2-300i_glas.py'

checkpoint = ('work_dirs/cmim_emb-masking_resnet18_1xb32-coslr-30e_he-tiles/'
              'epoch_30.pth')

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
