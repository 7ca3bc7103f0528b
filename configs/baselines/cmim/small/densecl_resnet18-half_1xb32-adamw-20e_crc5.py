"""DenseCL on CRC5, with the tiles, the width and the optimiser of CMIM's run;
the dense loss counts from the first iteration.

Learning rate 1e-3 for batches of 1 x 32, 20 epochs; data/crc5/training.
"""

_base_ = [
    './mocov2_resnet18-half_1xb32-adamw-20e_crc5.py',
    '../../../_base_/models/densecl.py',
]

model = dict(
    _base_.densecl_model,
    neck=dict(_base_.densecl_neck, in_channels=256, hid_channels=256))
default_hooks = dict(densecl=dict(_base_.densecl_hook, start_iters=0))
