"""CMIM to the letter of its text, with the mean as Eq. 7's reduction.

With SGD at 0.03 the encoder hardly moves (docs/methods/cmim.md).
"""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

# For a total batch of 256; --auto-scale-lr scales it to yours.
base_lr = 0.03

optim_wrapper = dict(optimizer=dict(lr=base_lr))
