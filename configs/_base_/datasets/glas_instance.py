"""GlaS as COCO instances: 85 training images, 80 test images (A and B).

Sizes and augmentation of ConCL's Detectron2 recipe.
tools/dataset_converters/convert.py glas writes the json files.
"""

# ========================= Frequently modified =========================
data_root = 'data/glas/'
train_ann_file = 'annotations/train.json'
test_ann_file = 'annotations/test.json'
classes = ('gland', )
batch_size = 2  # per GPU; the recipe has 8 GPUs
num_workers = 2  # per GPU

# ========================== Possibly modified ==========================
# (longer, shorter) edge. The shorter one is drawn between the two given.
train_scale = [(1333, 400), (1333, 522)]
test_scale = (1333, 522)

# ====================== Unmodified in most cases =======================
load_image = dict(type='mmmedmask.LoadImageFromFile')
# Tests have them for the visualizer; the metric reads the json file itself.
load_masks = dict(
    type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=True)
random_resize = dict(type='RandomResize', scale=train_scale, keep_ratio=True)
flip = dict(type='RandomFlip', prob=0.5)
pack = dict(type='PackDetInputs')
resize = dict(type='Resize', scale=test_scale, keep_ratio=True)
pack_test = dict(
    type='PackDetInputs',
    meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
               'scale_factor'))

# file_name in the json files is relative to data_root.
dataset = dict(
    type='CocoDataset',
    data_root=data_root,
    data_prefix=dict(img=''),
    metainfo=dict(classes=classes))

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        **dataset,
        ann_file=train_ann_file,
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[load_image, load_masks, random_resize, flip, pack]))
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        ann_file=test_ann_file,
        test_mode=True,
        pipeline=[load_image, resize, load_masks, pack_test]))
test_dataloader = val_dataloader

val_evaluator = dict(
    type='CocoMetric',
    ann_file=data_root + test_ann_file,
    metric=['bbox', 'segm'],
    format_only=False)
test_evaluator = val_evaluator
