"""MSMAE, ViT-B/16, 300 epochs on BUSI."""

_base_ = [
    '../_base_/models/msmae_vit-base-p16.py',
    '../_base_/datasets/busi_msmae.py',
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
    attention_panel=dict(pipeline=_base_.whole_image_pipeline),
    # How much attention and masking fall on the lesions, at each refresh.
    lesion_coverage=dict(
        type='mmmedmask.LesionCoverageHook',
        pipeline=_base_.whole_image_pipeline,
        num_images=1000))
