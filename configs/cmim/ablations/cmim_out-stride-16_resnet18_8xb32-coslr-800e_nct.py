"""Decoder tokens of 16 pixels instead of 32 (14x14 tokens)."""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(neck=dict(out_stride=16))
