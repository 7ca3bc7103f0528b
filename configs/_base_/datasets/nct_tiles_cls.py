"""NCT-CRC-HE-100K-NONORM with its nine labels, and for validation ConCL's
20,000 other tiles.

Crops and flips of ConCL's supervised baseline. The split is by tile, not by
patient: the accuracy says that training works, not how well it transfers.
"""

_base_ = './nct_tiles.py'

# ========================== Possibly modified ==========================
# Side of the images in pixels.
image_size = 224
# Share of a tile that a crop keeps.
crop_ratio_range = (0.08, 1.0)

# ====================== Unmodified in most cases =======================
num_classes = 9
crop = dict(
    type='mmmedmask.RandomResizedCrop',
    scale=image_size,
    crop_ratio_range=crop_ratio_range,
    interpolation='bilinear')
flip = dict(type='mmmedmask.RandomFlip', prob=0.5)
resize = dict(
    type='mmmedmask.ResizeImage', scale=image_size, interpolation='bilinear')

train_dataloader = dict(
    dataset=dict(
        with_labels=True,
        pipeline=[_base_.load_tile, crop, flip, _base_.pack_tile]))
val_dataloader = dict(
    batch_size=_base_.batch_size,
    num_workers=_base_.num_workers,
    persistent_workers=_base_.num_workers > 0,
    pin_memory=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmmedmask.NCTCRC',
        data_root=_base_.data_root,
        split='val',
        with_labels=True,
        test_mode=True,
        pipeline=[_base_.load_tile, resize, _base_.pack_tile]))
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1, ))
test_evaluator = val_evaluator
