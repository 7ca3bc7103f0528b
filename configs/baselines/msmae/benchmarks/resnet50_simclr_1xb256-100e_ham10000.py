"""ResNet-50 on HAM10000 from SimCLR: Table 1.

Learning rate 1e-3 for batches of 1 x 256, 100 epochs; data/ham10000.
"""

_base_ = [
    '../../../_base_/models/resnet50_cls.py',
    '../../../_base_/datasets/ham10000_cls.py',
    '../../../_base_/schedules/resnet_adamw_finetune_100e.py',
    '../../../_base_/labelled_finetune_runtime.py',
]

checkpoint = (
    'work_dirs/simclr_resnet50_1xb64-coslr-300e_ham10000/'
    'epoch_300.pth')

model = dict(
    backbone=dict(init_cfg=dict(checkpoint=checkpoint)),
    head=dict(num_classes=_base_.num_classes))
