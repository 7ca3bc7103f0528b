"""Two views of an image for MoCo v2, for any data set of labelled images.

mmpretrain's transforms with Pillow, which read BGR; the preprocessor of the
models turns it to RGB. Files are those that fine-tuning reads: 8 bit, gray
repeated three times, turned upright.
A child hands ``views_pipeline`` to the training set.
"""

# ========================== Possibly modified ==========================
# Side of the views in pixels, and the share of an image that one keeps.
view_size = 224
view_ratio_range = (0.2, 1.0)

# ====================== Unmodified in most cases =======================
load_view = dict(type='mmmedmask.LoadImageFromFile')
pack_views = dict(type='PackInputs', meta_keys=('img_path', 'sample_idx'))
crop = dict(
    type='RandomResizedCrop',
    scale=view_size,
    crop_ratio_range=view_ratio_range,
    backend='pillow')
jitter = dict(
    type='RandomApply',
    transforms=[
        dict(
            type='ColorJitter',
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            hue=0.1)
    ],
    prob=0.8)
gray = dict(
    type='RandomGrayscale',
    prob=0.2,
    keep_channels=True,
    # Of blue, green and red.
    channel_weights=(0.114, 0.587, 0.2989))
blur = dict(
    type='GaussianBlur',
    magnitude_range=(0.1, 2.0),
    magnitude_std='inf',
    prob=0.5)
flip = dict(type='RandomFlip', prob=0.5)
views_pipeline = [
    load_view,
    dict(
        type='MultiView',
        num_views=2,
        transforms=[[crop, jitter, gray, blur, flip]]),
    pack_views,
]
