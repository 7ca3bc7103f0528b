"""MoCo v3, ViT-B/16, 300 epochs on Brain Tumor MRI.

Learning rate 3.75e-5 for batches of 1 x 64, 300 epochs; data/brain_tumor_mri.
"""

_base_ = [
    '../../_base_/models/mocov3_vit-base-p16.py',
    '../../_base_/datasets/brain_tumor_mri_images.py',
    '../../_base_/datasets/labelled_views_mocov3.py',
    '../../_base_/schedules/mocov3_adamw_300e.py',
    '../../_base_/pretrain_runtime.py',
]

train_dataloader = dict(dataset=dict(pipeline=_base_.views_pipeline))
