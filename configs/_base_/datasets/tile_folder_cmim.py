"""A folder of your own tiles for CMIM; no labels, any depth of folders.

Workers only decode; views, colour and masks are drawn on the device.
"""

# ========================= Frequently modified =========================
# A folder, or a list of folders.
data_root = 'data/tiles/'
# Channels per tile; the model's in_channels, mean and std have to agree.
in_channels = 3
batch_size = 32  # per GPU
num_workers = 4  # per GPU

# ========================== Possibly modified ==========================
# 'uint8', 'uint16' or 'float32' (TIFF).
dtype = 'uint8'
# What to do at a broken file: 'raise', or 'skip' and log it.
on_error = 'raise'

# ====================== Unmodified in most cases =======================
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='mmmedmask.collate_tiles'),
    dataset=dict(
        type='mmmedmask.TileFolder',
        data_root=data_root,
        on_error=on_error,
        pipeline=[
            dict(
                type='mmmedmask.LoadTile',
                in_channels=in_channels,
                dtype=dtype),
            dict(type='mmmedmask.PackTile'),
        ]))
