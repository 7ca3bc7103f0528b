"""The small SETR on BUSI with the released geometry of the head."""

_base_ = './setr-pup_msmae-vit-mini-p8_1xb8-60e_busi.py'

model = dict(
    backbone=dict(out_indices=(5, )),
    decode_head=dict(
        _delete_=True,
        type='mmmedmask.PlainSETRHead',
        in_channels=_base_.arch.embed_dims,
        channels=_base_.channels,
        num_convs=3,
        loss_decode=dict(
            type='mmmedmask.BCEDiceLoss', bce_weight=0.5, dice_weight=1.0)),
    auxiliary_head=None)
