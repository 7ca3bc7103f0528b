"""The decoder on the three coarsest levels alone: it lives on the fine ones
otherwise (docs/results/cmim.md)."""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(neck=dict(levels=(3, 4, 5)))
