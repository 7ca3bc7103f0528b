"""GlaS from the ablation of Table 2 with masked embeddings alone."""

_base_ = './mask-rcnn_cmim-resnet18-fpn_8xb2-1x_glas.py'

checkpoint = ('work_dirs/cmim_emb-masking_resnet18_8xb32-coslr-800e_nct/'
              'epoch_800.pth')

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
