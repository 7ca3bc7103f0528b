"""NCT-CRC-HE-100K-NONORM for contrastive learning: two views of each tile,
with the crops and colours of MoCo v2.

The workers make the views with mmpretrain's transforms and Pillow, in RGB: the
jitter of colours is ours, since mmpretrain's takes channels for BGR. A core
makes some hundred views per second.
"""

_base_ = './nct_tiles.py'

# ========================= Frequently modified =========================
num_workers = 8  # per GPU

# ========================== Possibly modified ==========================
# Side of the views in pixels, and the share of a tile that one keeps.
view_size = 224
crop_ratio_range = (0.2, 1.0)

# ====================== Unmodified in most cases =======================
crop = dict(
    type='RandomResizedCrop',
    scale=view_size,
    crop_ratio_range=crop_ratio_range,
    backend='pillow')
jitter = dict(
    type='RandomApply',
    transforms=[
        dict(
            type='mmmedmask.ColorJitter',
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            hue=0.1)
    ],
    prob=0.8)
# Weights of R, G, B: mmpretrain's own configs read BGR.
gray = dict(
    type='RandomGrayscale',
    prob=0.2,
    keep_channels=True,
    channel_weights=(0.2989, 0.587, 0.114))
blur = dict(
    type='GaussianBlur',
    magnitude_range=(0.1, 2.0),
    magnitude_std='inf',
    prob=0.5)
flip = dict(type='RandomFlip', prob=0.5)
# What follows the crop; all of a tile's views have it.
colors = [jitter, gray, blur, flip]
pack_views = dict(type='PackInputs', meta_keys=('img_path', 'sample_idx'))
train_pipeline = [
    _base_.load_tile,
    dict(type='MultiView', num_views=2, transforms=[[crop, *colors]]),
    pack_views,
]

train_dataloader = dict(
    num_workers=num_workers, dataset=dict(pipeline=train_pipeline))
