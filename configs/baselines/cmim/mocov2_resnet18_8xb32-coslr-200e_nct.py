"""MoCo v2, ResNet-18, 200 epochs on NCT-CRC-HE-100K, as ConCL trains it.

Learning rate 0.03 for batches of 8 x 32, 200 epochs; data/NCT.
"""

_base_ = [
    '../../_base_/models/mocov2_resnet18.py',
    '../../_base_/datasets/nct_tiles_mocov2.py',
    '../../_base_/schedules/concl_sgd_200e.py',
    '../../_base_/pretrain_runtime.py',
]
