"""SimCLR, ResNet-50, 300 epochs on HAM10000.

Learning rate 0.075 for batches of 1 x 64, 300 epochs; data/ham10000.
"""

_base_ = [
    '../../_base_/models/simclr_resnet50.py',
    '../../_base_/datasets/ham10000_images.py',
    '../../_base_/datasets/labelled_views_simclr.py',
    '../../_base_/schedules/simclr_lars_300e.py',
    '../../_base_/pretrain_runtime.py',
]

train_dataloader = dict(dataset=dict(pipeline=_base_.views_pipeline))
