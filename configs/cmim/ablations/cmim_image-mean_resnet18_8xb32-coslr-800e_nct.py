"""The loss averaged per image first, then over images."""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(head=dict(reduction='image'))
