"""The small SETR-PUP on BUSI from random weights."""

_base_ = './setr-pup_msmae-vit-mini-p8_1xb8-60e_busi.py'

model = dict(backbone=dict(init_cfg=None))
default_hooks = dict(load_check=dict(allow_scratch=True))
