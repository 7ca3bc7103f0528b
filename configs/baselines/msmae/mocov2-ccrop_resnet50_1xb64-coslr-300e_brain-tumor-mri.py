"""MoCo v2 with ContrastiveCrop, ResNet-50, 300 epochs on Brain Tumor MRI.

Learning rate 7.5e-3 for batches of 1 x 64, 300 epochs; data/brain_tumor_mri.
"""

_base_ = [
    '../../_base_/models/mocov2_resnet50.py',
    '../../_base_/datasets/brain_tumor_mri_images.py',
    '../../_base_/datasets/labelled_views_mocov2-ccrop.py',
    '../../_base_/schedules/mocov2_sgd_300e.py',
    '../../_base_/pretrain_runtime.py',
]

train_dataloader = dict(dataset=dict(pipeline=_base_.views_pipeline))
default_hooks = dict(content_crop=_base_.content_crop_hook)
