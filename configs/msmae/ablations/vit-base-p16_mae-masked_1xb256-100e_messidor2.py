"""Table 3, IV: from MAE, trained on visible tokens (F-SAM)."""

_base_ = '../benchmarks/vit-base-p16_msmae_1xb256-100e_messidor2.py'

checkpoint = ('work_dirs/mae_vit-base-p16_1xb64-coslr-300e_messidor2/'
              'epoch_300.pth')

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
