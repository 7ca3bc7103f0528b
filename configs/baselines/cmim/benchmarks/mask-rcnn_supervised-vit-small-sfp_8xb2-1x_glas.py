"""GlaS, ViT-S/16 from the classifier of NCT-CRC's nine tissues (Table 1)."""

_base_ = './mask-rcnn_mae-vit-small-sfp_8xb2-1x_glas.py'

checkpoint = \
    'work_dirs/supervised_vit-small-p16_8xb32-coslr-100e_nct/epoch_100.pth'

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
