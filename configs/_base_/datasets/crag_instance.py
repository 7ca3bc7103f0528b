"""CRAG as COCO instances: 173 training images, 40 test images.

Sizes and augmentation of ConCL's Detectron2 recipe.
tools/dataset_converters/convert.py crag writes the json files.
"""

_base_ = './glas_instance.py'

# ========================= Frequently modified =========================
data_root = 'data/crag/'

# ========================== Possibly modified ==========================
# (longer, shorter) edge. The shorter one is drawn between the two given.
train_scale = [(1333, 768), (1333, 1024)]
test_scale = (1333, 768)

# ====================== Unmodified in most cases =======================
random_resize = dict(_base_.random_resize, scale=train_scale)
resize = dict(_base_.resize, scale=test_scale)
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        pipeline=[
            _base_.load_image, _base_.load_masks, random_resize, _base_.flip,
            _base_.pack
        ]))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        pipeline=[
            _base_.load_image, resize, _base_.load_masks, _base_.pack_test
        ]))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + _base_.test_ann_file)
test_evaluator = val_evaluator
