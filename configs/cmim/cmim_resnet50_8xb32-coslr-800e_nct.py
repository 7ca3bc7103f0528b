"""CMIM with a ResNet-50 encoder (Table 5)."""

_base_ = './cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(backbone=dict(depth=50))
