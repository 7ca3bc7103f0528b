"""The mask token after the pooling, at a quarter of the resolution."""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(backbone=dict(mask_at='maxpool'))
