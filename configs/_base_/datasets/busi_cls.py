"""BUSI for classification: 547 training and 233 validation images.

Augmentation and batch of MSMAE's fine-tuning (arXiv 2305.05871).
tools/dataset_converters/convert.py busi writes the data set.
"""

# ========================= Frequently modified =========================
data_root = 'data/busi/'
# 'splits/grouped' keeps copies of an image on one side.
split_folder = 'splits/paper'
batch_size = 256  # per GPU; the paper has one
num_workers = 4  # per GPU

# ========================== Possibly modified ==========================
# Side of the images in pixels, or (h, w).
image_size = 224
# Channels per image; the model's mean and std have to agree.
in_channels = 3
# Share of an image that a crop keeps.
crop_ratio_range = (0.2, 1.0)

# ====================== Unmodified in most cases =======================
num_classes = 3
load_image = dict(
    type='mmmedmask.LoadTile',
    in_channels=in_channels,
    gray_to_rgb=in_channels == 3,
    drop_alpha=in_channels == 3)
# Where the crop lies, so that an attention map can be cut alike.
pack_image = dict(
    type='mmmedmask.PackTile',
    meta_keys=('img_path', 'sample_idx', 'ori_shape', 'crop_box', 'flip',
               'flip_direction'))
train_pipeline = [
    load_image,
    dict(
        type='mmmedmask.RandomResizedCrop',
        scale=image_size,
        crop_ratio_range=crop_ratio_range,
        interpolation='bicubic'),
    dict(type='mmmedmask.RandomFlip', prob=0.5),
    pack_image,
]
# For AttentionMaskHook, which looks at whole images.
whole_image_pipeline = [
    load_image,
    dict(
        type='mmmedmask.ResizeImage',
        scale=image_size,
        interpolation='bilinear'),
    pack_image,
]
# Squashed, without a crop; intervals are drawn by group.
test_pipeline = [
    load_image,
    dict(
        type='mmmedmask.ResizeImage',
        scale=image_size,
        interpolation='bilinear'),
    dict(
        type='mmmedmask.PackTile',
        meta_keys=('img_path', 'sample_idx', 'ori_shape', 'group')),
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
        type='mmmedmask.LabelledImages',
        data_root=data_root,
        split='train',
        split_folder=split_folder,
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
        type='mmmedmask.LabelledImages',
        data_root=data_root,
        split='val',
        split_folder=split_folder,
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(
    type='mmmedmask.DiseaseClassification', data_root=data_root)
test_evaluator = val_evaluator
