"""Labelled images for fine-tuning: batches of 256, and validation.

Augmentation and batch are those of MSMAE's fine-tuning (arXiv 2305.05871).
"""

_base_ = './labelled_images_pretrain.py'

# ========================= Frequently modified =========================
batch_size = 256  # per GPU; the paper has one

# ====================== Unmodified in most cases =======================
# Intervals are drawn by group.
pack_test_image = dict(
    type='mmmedmask.PackTile',
    meta_keys=('img_path', 'sample_idx', 'ori_shape', 'group'))

train_dataloader = dict(batch_size=batch_size)
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=_base_.num_workers,
    persistent_workers=_base_.num_workers > 0,
    pin_memory=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmmedmask.LabelledImages',
        split='val',
        test_mode=True,
        # Squashed, without a crop.
        pipeline=[_base_.load_image, _base_.resize_image, pack_test_image]))
test_dataloader = val_dataloader

val_evaluator = dict(type='mmmedmask.DiseaseClassification')
test_evaluator = val_evaluator
