"""NCT-CRC-HE-100K-NONORM: ConCL's 80,000 training tiles, one loader for all.

A child gives the data set its pipeline.
"""

# ========================= Frequently modified =========================
data_root = 'data/NCT/'
batch_size = 32  # per GPU
num_workers = 4  # per GPU

# ====================== Unmodified in most cases =======================
load_tile = dict(type='mmmedmask.LoadTile', in_channels=3)
pack_tile = dict(type='mmmedmask.PackTile')
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    pin_memory=True,
    # Queues and norms take whole batches.
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmmedmask.NCTCRC', data_root=data_root, split='train'))
