"""Targets normalised per patch and channel, which leave the stain out."""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(head=dict(norm_pix='channel'))
