"""MSMAE with a ViT-S/16 encoder, which the paper does not have."""

_base_ = './msmae_vit-base-p16_1xb64-coslr-300e_messidor2.py'

model = dict(backbone=dict(arch='deit-small'))
