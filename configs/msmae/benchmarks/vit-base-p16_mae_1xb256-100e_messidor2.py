"""ViT-B/16 on Messidor-2 from MAE, on all tokens (Table 3, baseline)."""

_base_ = './vit-base-p16_msmae_1xb256-100e_messidor2.py'

checkpoint = ('work_dirs/mae_vit-base-p16_1xb64-coslr-300e_messidor2/'
              'epoch_300.pth')

model = dict(
    backbone=dict(init_cfg=dict(checkpoint=checkpoint)),
    mask_ratio=0.0,
    throw_ratio=0.0)
default_hooks = dict(
    attention_mask=None)
