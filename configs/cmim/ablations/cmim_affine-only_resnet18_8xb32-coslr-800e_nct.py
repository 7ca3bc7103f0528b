"""Two affine views, no colour augmentation."""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(data_preprocessor=dict(color=None))
