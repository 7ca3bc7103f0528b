"""MSMAE with a ViT-B/8 encoder, which the paper does not have."""

_base_ = './msmae_vit-base-p16_1xb64-coslr-300e_messidor2.py'

model = dict(backbone=dict(patch_size=8))
