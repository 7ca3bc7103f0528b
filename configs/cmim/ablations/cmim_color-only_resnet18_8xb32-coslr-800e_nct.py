"""Colour augmentation, one view (t2 = t1)."""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(data_preprocessor=dict(same_view=True))
