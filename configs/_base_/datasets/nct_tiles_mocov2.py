"""NCT-CRC-HE-100K-NONORM for contrastive learning, ConCL's 80,000 training
tiles: two views of each, with the crops and colours of MoCo v2.

The workers make the views with mmpretrain's transforms and Pillow, in RGB: the
jitter of colours is ours, since mmpretrain's takes channels for BGR. They draw
from the state of their worker: other numbers of workers give other views. A
core makes some hundred views per second.
"""

# ========================= Frequently modified =========================
data_root = 'data/NCT/'
batch_size = 32  # per GPU
num_workers = 8  # per GPU

# ========================== Possibly modified ==========================
# Side of the views in pixels, and the share of a tile that one keeps.
view_size = 224
crop_ratio_range = (0.2, 1.0)

# ====================== Unmodified in most cases =======================
view_pipeline = [
    dict(
        type='RandomResizedCrop',
        scale=view_size,
        crop_ratio_range=crop_ratio_range,
        backend='pillow'),
    dict(
        type='RandomApply',
        transforms=[
            dict(
                type='mmmedmask.ColorJitter',
                brightness=0.4,
                contrast=0.4,
                saturation=0.4,
                hue=0.1)
        ],
        prob=0.8),
    # Weights of R, G, B: mmpretrain's own configs read BGR.
    dict(
        type='RandomGrayscale',
        prob=0.2,
        keep_channels=True,
        channel_weights=(0.2989, 0.587, 0.114)),
    dict(
        type='GaussianBlur',
        magnitude_range=(0.1, 2.0),
        magnitude_std='inf',
        prob=0.5),
    dict(type='RandomFlip', prob=0.5),
]
train_pipeline = [
    dict(type='mmmedmask.LoadTile', in_channels=3),
    dict(type='MultiView', num_views=2, transforms=[view_pipeline]),
    dict(type='PackInputs', meta_keys=('img_path', 'sample_idx')),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    pin_memory=True,
    # A queue takes whole batches.
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmmedmask.NCTCRC',
        data_root=data_root,
        split='train',
        pipeline=train_pipeline))
