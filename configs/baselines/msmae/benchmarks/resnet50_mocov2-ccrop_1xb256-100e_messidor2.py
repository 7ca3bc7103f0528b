"""ResNet-50 on Messidor-2 from ContrastiveCrop (MoCo v2): Table 1.

Learning rate 1e-3 for batches of 1 x 256, 100 epochs; data/messidor2.
"""

_base_ = [
    '../../../_base_/models/resnet50_cls.py',
    '../../../_base_/datasets/messidor2_cls.py',
    '../../../_base_/schedules/resnet_adamw_finetune_100e.py',
    '../../../_base_/labelled_finetune_runtime.py',
]

checkpoint = (
    'work_dirs/mocov2-ccrop_resnet50_1xb64-coslr-300e_messidor2/'
    'epoch_300.pth')

model = dict(
    backbone=dict(init_cfg=dict(checkpoint=checkpoint)),
    head=dict(num_classes=_base_.num_classes))
