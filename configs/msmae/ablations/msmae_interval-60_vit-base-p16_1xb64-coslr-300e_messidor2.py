"""Table 8d, new maps every 60 epochs of pre-training; default is 40."""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_messidor2.py'

default_hooks = dict(attention_mask=dict(interval=60))
