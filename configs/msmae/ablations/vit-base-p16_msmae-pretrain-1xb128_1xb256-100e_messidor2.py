"""Table 8a, Messidor-2: a batch of 128 in pre-training."""

_base_ = '../benchmarks/vit-base-p16_msmae_1xb256-100e_messidor2.py'

checkpoint = (
    'work_dirs/msmae_vit-base-p16_1xb128-coslr-300e_'
    'messidor2/epoch_300.pth')

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
