"""ViT-B/16 on Brain Tumor MRI from MSMAE, trained on visible tokens.

Learning rate 1e-3 for batches of 1 x 256, 100 epochs, mask ratio 0.45;
data/brain_tumor_mri.
"""

_base_ = [
    '../../_base_/models/vit-base-p16_msmae-cls.py',
    '../../_base_/datasets/brain_tumor_mri_cls.py',
    '../../_base_/schedules/msmae_adamw_finetune_100e.py',
    '../../_base_/msmae_finetune_runtime.py',
]

# ========================= Frequently modified =========================
# A pre-training run's checkpoint, or one that convert_mae_checkpoint.py made.
checkpoint = ('work_dirs/msmae_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri/'
              'epoch_300.pth')

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=dict(
        img_size=_base_.image_size, init_cfg=dict(checkpoint=checkpoint)),
    head=dict(num_classes=_base_.num_classes))
default_hooks = dict(
    attention_mask=dict(
        pipeline=_base_.whole_image_pipeline, num_workers=_base_.num_workers))
