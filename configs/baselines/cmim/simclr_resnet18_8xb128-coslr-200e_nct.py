"""SimCLR, ResNet-18, 200 epochs on NCT-CRC-HE-100K, as ConCL trains it.

Learning rate 0.6 for batches of 8 x 128, 200 epochs; data/NCT.
"""

_base_ = [
    '../../_base_/models/simclr_resnet18.py',
    '../../_base_/datasets/nct_tiles_simclr.py',
    '../../_base_/schedules/contrastive_lars_200e.py',
    '../../_base_/pretrain_runtime.py',
]
