"""SETR-PUP on BUSI from MAE weights: Table 2, "MAE"."""

_base_ = './setr-pup_msmae-vit-base-p16_1xb8-200e_busi.py'

checkpoint = 'work_dirs/mae_vit-base-p16_1xb64-coslr-300e_busi/epoch_300.pth'

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
