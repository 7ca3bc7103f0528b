"""MSMAE, ViT-B/16, 300 epochs on Brain Tumor MRI."""

_base_ = [
    '../_base_/models/msmae_vit-base-p16.py',
    '../_base_/datasets/brain_tumor_mri_msmae.py',
    '../_base_/schedules/msmae_adamw_300e.py',
    '../_base_/msmae_runtime.py',
]

# ========================== Possibly modified ==========================
# Epochs of random masking, and epochs from one refresh of the maps to the
# next (Table 4).
begin = 40
interval = 40

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=dict(img_size=_base_.image_size),
    head=dict(num_classes=_base_.num_classes))
attention_mask = dict(
    type='mmmedmask.AttentionMaskHook',
    begin=begin,
    interval=interval,
    pipeline=_base_.whole_image_pipeline,
    num_workers=_base_.num_workers)
custom_hooks = [attention_mask]
default_hooks = dict(
    attention_panel=dict(pipeline=_base_.whole_image_pipeline))
