"""SETR-PUP on BUSI from a supervised classifier: Table 2, "ViT-B"."""

_base_ = './setr-pup_msmae-vit-base-p16_1xb8-200e_busi.py'

checkpoint = 'work_dirs/vit-base-p16_scratch_1xb256-300e_busi/epoch_300.pth'

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
