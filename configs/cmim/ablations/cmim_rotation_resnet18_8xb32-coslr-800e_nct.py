"""Views that are also turned, mirrored top to bottom and sheared.

Pathology has no canonical orientation. The warps need grid_sample.
"""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(
    data_preprocessor=dict(
        views=dict(vertical_flip_prob=0.5, max_angle=180.0, max_shear=10.0)))
