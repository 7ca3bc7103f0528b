"""Heads averaged before attention is brought to [0, 1], as Eq. 5 has it."""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_messidor2.py'

model = dict(weight_norm='mean_heads')
