"""CRAG, ViT-S/16 from EVA weights (Table 1)."""

_base_ = './mask-rcnn_mae-vit-small-sfp_8xb2-1x_crag.py'

checkpoint = 'work_dirs/eva_vit-small-p16_8xb32-coslr-800e_nct/epoch_800.pth'

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
