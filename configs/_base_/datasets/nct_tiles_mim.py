"""NCT-CRC-HE-100K-NONORM for masked image modelling, ConCL's 80,000 training
tiles: crops and flips, as MAE and EVA have them.

These are CMIM's affine views; MAE found colour to do harm, so there is none.
The masks are drawn in the model.
"""

# ========================= Frequently modified =========================
data_root = 'data/NCT/'
batch_size = 32  # per GPU
num_workers = 4  # per GPU

# ========================== Possibly modified ==========================
# Side of the images in pixels.
image_size = 224
# Share of a tile that a crop keeps.
crop_ratio_range = (0.2, 1.0)

# ====================== Unmodified in most cases =======================
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
        pipeline=[
            dict(type='mmmedmask.LoadTile', in_channels=3),
            dict(
                type='mmmedmask.RandomResizedCrop',
                scale=image_size,
                crop_ratio_range=crop_ratio_range,
                interpolation='bicubic'),
            dict(type='mmmedmask.RandomFlip', prob=0.5),
            dict(type='mmmedmask.PackTile'),
        ]))
