"""The decoder without the finest level, z1 of Eq. 5."""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(neck=dict(levels=(2, 3, 4, 5)))
