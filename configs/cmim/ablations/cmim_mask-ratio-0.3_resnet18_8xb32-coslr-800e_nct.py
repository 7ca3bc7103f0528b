"""CMIM with 30 % of the patches masked (Figure 4; the default is 70 %)."""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(data_preprocessor=dict(mask_ratio=0.3))
