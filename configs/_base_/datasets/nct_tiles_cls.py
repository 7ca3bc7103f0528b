"""NCT-CRC-HE-100K-NONORM with its nine labels: ConCL's 80,000 training tiles
and, for validation, its 20,000 others.

Crops and flips of ConCL's supervised baseline. The split is by tile, not by
patient: the accuracy says that training works, not how well it transfers.
"""

# ========================= Frequently modified =========================
data_root = 'data/NCT/'
batch_size = 32  # per GPU
num_workers = 4  # per GPU

# ========================== Possibly modified ==========================
# Side of the images in pixels.
image_size = 224
# Share of a tile that a crop keeps.
crop_ratio_range = (0.08, 1.0)

# ====================== Unmodified in most cases =======================
num_classes = 9
train_pipeline = [
    dict(type='mmmedmask.LoadTile', in_channels=3),
    dict(
        type='mmmedmask.RandomResizedCrop',
        scale=image_size,
        crop_ratio_range=crop_ratio_range,
        interpolation='bilinear'),
    dict(type='mmmedmask.RandomFlip', prob=0.5),
    dict(type='mmmedmask.PackTile'),
]
test_pipeline = [
    dict(type='mmmedmask.LoadTile', in_channels=3),
    dict(
        type='mmmedmask.ResizeImage',
        scale=image_size,
        interpolation='bilinear'),
    dict(type='mmmedmask.PackTile'),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmmedmask.NCTCRC',
        data_root=data_root,
        split='train',
        with_labels=True,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    pin_memory=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmmedmask.NCTCRC',
        data_root=data_root,
        split='val',
        with_labels=True,
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1, ))
test_evaluator = val_evaluator
