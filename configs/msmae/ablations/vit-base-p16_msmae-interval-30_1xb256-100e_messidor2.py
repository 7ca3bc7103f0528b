"""Table 8e, new maps every 30 epochs of fine-tuning; default is 20."""

_base_ = '../benchmarks/vit-base-p16_msmae_1xb256-100e_messidor2.py'

default_hooks = dict(attention_mask=dict(interval=30))
