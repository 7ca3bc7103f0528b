"""Labelled images for pre-training: crops and flips of MSMAE (2305.05871).

A data set inherits this, and says where it is and how many classes it has.
"""

# ========================= Frequently modified =========================
batch_size = 64  # per GPU; the paper has one
num_workers = 4  # per GPU

# ========================== Possibly modified ==========================
# Side of the images in pixels, or (h, w).
image_size = 224
# Channels per image; the model's mean and std have to agree.
in_channels = 3
# Share of an image that a crop keeps.
crop_ratio_range = (0.2, 1.0)

# ====================== Unmodified in most cases =======================
load_image = dict(
    type='mmmedmask.LoadTile',
    in_channels=in_channels,
    gray_to_rgb=in_channels == 3,
    drop_alpha=in_channels == 3)
crop_image = dict(
    type='mmmedmask.RandomResizedCrop',
    scale=image_size,
    crop_ratio_range=crop_ratio_range,
    interpolation='bicubic')
flip_image = dict(type='mmmedmask.RandomFlip', prob=0.5)
resize_image = dict(
    type='mmmedmask.ResizeImage', scale=image_size, interpolation='bilinear')
# Where the crop lies, so that an attention map can be cut alike.
pack_image = dict(
    type='mmmedmask.PackTile',
    meta_keys=('img_path', 'sample_idx', 'ori_shape', 'crop_box', 'flip',
               'flip_direction'))
# For AttentionMaskHook, which looks at whole images.
whole_image_pipeline = [load_image, resize_image, pack_image]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmmedmask.LabelledImages',
        split='train',
        pipeline=[load_image, crop_image, flip_image, pack_image]))
