"""SETR on BUSI with the geometry of the head that MSMAE's authors released.

No LayerNorm before the head, a 3x3 convolution as its last, corners aligned
in upsampling, and no auxiliary heads.
"""

_base_ = './setr-pup_msmae-vit-base-p16_1xb8-200e_busi.py'

model = dict(
    backbone=dict(out_indices=(11, )),
    decode_head=dict(
        _delete_=True,
        type='mmmedmask.PlainSETRHead',
        in_channels=_base_.embed_dims,
        channels=256,
        num_convs=4,
        threshold=_base_.threshold,
        loss_decode=dict(
            type='mmmedmask.BCEDiceLoss', bce_weight=0.5, dice_weight=1.0)),
    auxiliary_head=None)
