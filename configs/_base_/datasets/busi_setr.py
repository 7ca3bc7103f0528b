"""BUSI with lesion masks for SETR: 780 images, copies on one side.

The layout and the split are those of pre-training and classification;
tools/dataset_converters/convert.py busi writes them. Augmentation of MSMAE's
paper (Table 6): rotation by right angles; then all images are squashed to one
size.
"""

# ========================= Frequently modified =========================
data_root = 'data/busi/'
# 'splits/paper', of 547 and 233 images, has copies on both sides.
split_folder = 'splits/grouped'
batch_size = 8  # per GPU; the paper has one
num_workers = 4  # per GPU

# ========================== Possibly modified ==========================
image_size = (224, 224)  # (w, h)
rotation_prob = 0.5

# ====================== Unmodified in most cases =======================
meta_keys = ('img_path', 'sample_idx', 'ori_shape', 'img_shape', 'gt_label',
             'class_name', 'group')
load_image = dict(type='mmmedmask.LoadTile', gray_to_rgb=True, drop_alpha=True)
load_mask = dict(type='mmmedmask.LoadLesionMask')
rotate = dict(type='mmmedmask.RandomRotate90', prob=rotation_prob)
# With this backend images are antialiased and masks stay centred.
resize = dict(type='Resize', scale=image_size, backend='pillow')
pack = dict(type='PackSegInputs', meta_keys=meta_keys)
train_pipeline = [load_image, load_mask, rotate, resize, pack]
# The mask after the resizing: measured at the size of the file.
test_pipeline = [load_image, resize, load_mask, pack]

dataset = dict(
    type='mmmedmask.LesionSegmentation',
    data_root=data_root,
    split_folder=split_folder)

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**dataset, split='train', pipeline=train_pipeline))
val_dataloader = dict(
    # mmseg warns of every batch whose files differ in size.
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset, split='val', test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(
    type='mmmedmask.BinarySegMetric',
    # Of the scores that count as the paper does; (h, w).
    official_batch=8,
    official_size=image_size[::-1],
    data_root=data_root)
test_evaluator = val_evaluator

# tools/test.py --tta: the mean of each image and its mirror image.
flips = [dict(type='RandomFlip', prob=prob, direction='horizontal')
         for prob in (0., 1.)]
pack_turned = dict(pack, meta_keys=(*meta_keys, 'flip', 'flip_direction'))
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    load_image,
    dict(
        type='TestTimeAug',
        transforms=[[resize], flips, [load_mask], [pack_turned]])
]
