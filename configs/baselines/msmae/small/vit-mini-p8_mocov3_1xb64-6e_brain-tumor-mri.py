"""A classifier from MoCo v3 at the small size, on Brain Tumor MRI.

Learning rate 1e-3 for batches of 1 x 64, 6 epochs; data/brain_tumor_mri.
"""

_base_ = [
    '../../../_base_/models/vit-base-p16_cls.py',
    '../../../_base_/datasets/brain_tumor_mri_64px_cls.py',
    '../../../_base_/schedules/small_finetune_6e.py',
    '../../../_base_/labelled_finetune_runtime.py',
]

# ========================= Frequently modified =========================
checkpoint = ('work_dirs/mocov3_vit-mini-p8_1xb64-30e_brain-tumor-mri/'
              'epoch_30.pth')

# ========================== Possibly modified ==========================
arch = dict(
    embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512)
patch_size = 8

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, **arch),
        img_size=_base_.image_size,
        patch_size=patch_size,
        init_cfg=dict(checkpoint=checkpoint)),
    head=dict(
        num_classes=_base_.num_classes, in_channels=arch['embed_dims']))
default_hooks = dict(
    logger=dict(interval=44), checkpoint=dict(interval=1))
