"""DenseCL, ResNet-18, 200 epochs on NCT-CRC-HE-100K, as ConCL trains it.

MoCo v2 with a second queue for places. The dense loss starts after 1,000
iterations, as in mmselfsup; ConCL has it from the first one.

Learning rate 0.03 for batches of 8 x 32, 200 epochs; data/NCT.
"""

_base_ = [
    './mocov2_resnet18_8xb32-coslr-200e_nct.py',
    '../../_base_/models/densecl.py',
]

model = _base_.densecl_model
default_hooks = dict(densecl=_base_.densecl_hook)
