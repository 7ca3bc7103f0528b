"""Targets normalised per patch, as SparK and MAE do."""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(head=dict(norm_pix=True))
