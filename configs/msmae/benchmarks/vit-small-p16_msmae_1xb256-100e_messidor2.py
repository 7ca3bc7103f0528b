"""ViT-S/16 on Messidor-2 from MSMAE's weights, trained on visible tokens."""

_base_ = './vit-base-p16_msmae_1xb256-100e_messidor2.py'

checkpoint = ('work_dirs/msmae_vit-small-p16_1xb64-coslr-300e_messidor2/'
              'epoch_300.pth')

model = dict(
    backbone=dict(
        arch='deit-small', init_cfg=dict(checkpoint=checkpoint)),
    head=dict(in_channels=384))
