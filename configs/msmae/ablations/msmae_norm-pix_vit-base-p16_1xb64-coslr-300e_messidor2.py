"""Targets normalised per patch, as MAE's own recipe has it."""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_messidor2.py'

model = dict(head=dict(norm_pix=True))
