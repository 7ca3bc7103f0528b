"""Eq. 7 as it stands, a squared norm: the sum over an image's values.

About half of the 3 x 224 x 224 values of a view count: the rate is the
parent's for the mean, divided by their number.
"""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

# For a total batch of 256; --auto-scale-lr scales it to yours.
base_lr = 0.03 * 20 / (0.5 * 3 * 224**2)

model = dict(head=dict(reduction='sum'))
optim_wrapper = dict(optimizer=dict(lr=base_lr))
