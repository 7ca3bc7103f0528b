"""SETR-PUP on BUSI from AMT weights: Table 2, "AMT (MAE)"."""

_base_ = './setr-pup_msmae-vit-base-p16_1xb8-200e_busi.py'

checkpoint = 'work_dirs/amt_vit-base-p16_1xb64-coslr-300e_busi/epoch_300.pth'

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
