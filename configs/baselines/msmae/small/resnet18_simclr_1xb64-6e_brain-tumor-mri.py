"""A classifier from SimCLR at the small size, on Brain Tumor MRI.

Learning rate 1e-3 for batches of 1 x 64, 6 epochs; data/brain_tumor_mri.
"""

_base_ = [
    '../../../_base_/models/resnet50_cls.py',
    '../../../_base_/datasets/brain_tumor_mri_64px_cls.py',
    '../../../_base_/schedules/small_finetune_6e.py',
    '../../../_base_/labelled_finetune_runtime.py',
]

# ========================= Frequently modified =========================
checkpoint = ('work_dirs/simclr_resnet18_1xb64-30e_brain-tumor-mri/'
              'epoch_30.pth')

# ========================== Possibly modified ==========================
# The last map has 4 x 4 places.
strides = (1, 2, 2, 1)

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=dict(
        depth=18, strides=strides, init_cfg=dict(checkpoint=checkpoint)),
    head=dict(num_classes=_base_.num_classes, in_channels=512))
# mmpretrain knows no layers of a ResNet-18, so there is one rate.
optim_wrapper = dict(
    constructor='DefaultOptimWrapperConstructor',
    paramwise_cfg=dict(
        _delete_=True, norm_decay_mult=0.0, flat_decay_mult=0.0))
default_hooks = dict(
    logger=dict(interval=44), checkpoint=dict(interval=1))
