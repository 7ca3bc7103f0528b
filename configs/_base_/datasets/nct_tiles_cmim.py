"""NCT-CRC-HE-100K-NONORM for CMIM, ConCL's 80,000 training tiles.

Workers only decode; views, colour and masks are drawn on the device.
"""

# ========================= Frequently modified =========================
data_root = 'data/NCT/'
batch_size = 32  # per GPU
num_workers = 4  # per GPU

# ====================== Unmodified in most cases =======================
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='mmmedmask.NCTCRC',
        data_root=data_root,
        split='train',
        pipeline=[
            dict(type='mmmedmask.LoadTile', in_channels=3),
            dict(type='mmmedmask.PackTile'),
        ]))
