"""SimCLR, ResNet-18, 200 epochs on NCT-CRC-HE-100K, as ConCL trains it."""

_base_ = [
    '../../_base_/models/simclr_resnet18.py',
    '../../_base_/datasets/nct_tiles_simclr.py',
    '../../_base_/schedules/contrastive_lars_200e.py',
    '../../_base_/pretrain_runtime.py',
]
