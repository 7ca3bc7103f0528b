"""MSMAE, ViT-B/16, 300 epochs on HAM10000.

Learning rate 2.5e-4 for batches of 1 x 64, 300 epochs, mask ratio 0.45;
data/ham10000.
"""

_base_ = [
    '../_base_/models/msmae_vit-base-p16.py',
    '../_base_/datasets/ham10000_images.py',
    '../_base_/schedules/msmae_adamw_300e.py',
    '../_base_/msmae_runtime.py',
]

model = dict(
    backbone=dict(img_size=_base_.image_size),
    head=dict(num_classes=_base_.num_classes))
default_hooks = dict(
    attention_mask=dict(
        pipeline=_base_.whole_image_pipeline, num_workers=_base_.num_workers),
    attention_panel=dict(pipeline=_base_.whole_image_pipeline),
    # How much attention and masking fall on the lesions, at each refresh.
    lesion_coverage=dict(
        type='mmmedmask.LesionCoverageHook',
        pipeline=_base_.whole_image_pipeline,
        num_images=1000))
