"""Swin-T on Brain Tumor MRI from SimMIM: Table 1.

Learning rate 1e-3 for batches of 1 x 256, 100 epochs; data/brain_tumor_mri.
"""

_base_ = [
    '../../../_base_/models/swin-tiny_cls.py',
    '../../../_base_/datasets/brain_tumor_mri_cls.py',
    '../../../_base_/schedules/swin_adamw_finetune_100e.py',
    '../../../_base_/labelled_finetune_runtime.py',
]

checkpoint = (
    'work_dirs/simmim_swin-tiny_1xb64-coslr-300e_brain-tumor-mri/'
    'epoch_300.pth')

model = dict(
    backbone=dict(init_cfg=dict(checkpoint=checkpoint)),
    head=dict(num_classes=_base_.num_classes))
