"""A classifier from SimMIM at the small size, on Brain Tumor MRI.

Learning rate 1e-3 for batches of 1 x 64, 6 epochs; data/brain_tumor_mri.
"""

_base_ = [
    '../../../_base_/models/swin-tiny_cls.py',
    '../../../_base_/datasets/brain_tumor_mri_64px_cls.py',
    '../../../_base_/schedules/small_finetune_6e.py',
    '../../../_base_/labelled_finetune_runtime.py',
]

# ========================= Frequently modified =========================
checkpoint = ('work_dirs/simmim_swin-mini_1xb64-30e_brain-tumor-mri/'
              'epoch_30.pth')

# ========================== Possibly modified ==========================
arch = dict(embed_dims=48, depths=[2, 2, 2], num_heads=[2, 4, 8])
window_size = 4

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, **arch),
        img_size=_base_.image_size,
        out_indices=(2, ),
        stage_cfgs=dict(block_cfgs=dict(window_size=window_size)),
        init_cfg=dict(checkpoint=checkpoint)),
    head=dict(num_classes=_base_.num_classes, in_channels=192))
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={'.relative_position_bias_table': dict(decay_mult=0.0)}))
default_hooks = dict(
    logger=dict(interval=44), checkpoint=dict(interval=1))
