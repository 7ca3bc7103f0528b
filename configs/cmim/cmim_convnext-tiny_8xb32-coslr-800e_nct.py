"""CMIM with a ConvNeXt-T encoder, which the paper does not have.

AdamW, as ConvNeXt needs it; the other settings are CMIM's.
"""

_base_ = './cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmmedmask.CMIMConvNeXt',
        arch='tiny',
        drop_path_rate=0.1))
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True,
        type='AdamW',
        lr=2e-4,
        betas=(0.9, 0.95),
        weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0))
