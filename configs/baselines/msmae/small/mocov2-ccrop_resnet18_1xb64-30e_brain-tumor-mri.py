"""MoCo v2 with ContrastiveCrop at a size for CPU cores, on Brain Tumor MRI.

Views of 64 pixels, ResNet-18, 30 epochs, of which the first 6 crop at random.
"""

_base_ = '../mocov2-ccrop_resnet50_1xb64-coslr-300e_brain-tumor-mri.py'

# ========================= Frequently modified =========================
max_epochs = 30
# Higher than the paper's sizes have it, for a tenth of the epochs.
base_lr = 0.03

# ========================== Possibly modified ==========================
image_size = 64
# The last map has 4 x 4 places.
strides = (1, 2, 2, 1)
begin = 6
interval = 6
num_workers = 0

# ====================== Unmodified in most cases =======================
multi_view = _base_.views_pipeline[1]
views_pipeline = [
    _base_.views_pipeline[0],
    dict(
        multi_view,
        transforms=[[dict(view[0], scale=image_size), *view[1:]]
                    for view in multi_view['transforms']]),
    _base_.views_pipeline[2],
]
train_dataloader = dict(
    num_workers=num_workers,
    persistent_workers=False,
    dataset=dict(pipeline=views_pipeline))
model = dict(
    backbone=dict(depth=18, strides=strides),
    neck=dict(in_channels=512, hid_channels=512))
optim_wrapper = dict(optimizer=dict(lr=base_lr))
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [
    dict(
        _base_.custom_hooks[0],
        begin=begin,
        interval=interval,
        num_workers=num_workers,
        pipeline=[
            _base_.whole_view_pipeline[0],
            dict(_base_.whole_view_pipeline[1], scale=image_size),
            _base_.whole_view_pipeline[2],
        ])
]
default_hooks = dict(
    logger=dict(interval=44),
    checkpoint=dict(interval=max_epochs, max_keep_ckpts=1))
