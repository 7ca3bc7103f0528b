"""SETR-PUP on BUSI from random weights: Table 2, "Baseline"."""

_base_ = './setr-pup_msmae-vit-base-p16_1xb8-200e_busi.py'

model = dict(backbone=dict(init_cfg=None))
default_hooks = dict(load_check=dict(allow_scratch=True))
