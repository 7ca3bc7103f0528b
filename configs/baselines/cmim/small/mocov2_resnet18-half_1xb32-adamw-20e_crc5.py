"""MoCo v2 on CRC5, with the tiles, the width and the optimiser of CMIM's run.

The key encoder follows faster than in a long run.

Learning rate 1e-3 for batches of 1 x 32, 20 epochs; data/crc5/training.
"""

_base_ = [
    './mocov2_resnet18_1xb32-coslr-30e_he-tiles.py',
    '../../../_base_/crc5_pretrain.py',
]

# ========================= Frequently modified =========================
momentum = 0.01

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=_base_.crc5_width,
    neck=dict(in_channels=256, hid_channels=256),
    momentum=momentum)
crop = dict(_base_.crop, scale=_base_.crc5_view_size)
train_pipeline = [
    _base_.load_tile,
    dict(type='MultiView', num_views=2, transforms=[[crop, *_base_.colors]]),
    _base_.pack_views,
]
train_dataloader = dict(
    _base_.crc5_loader,
    dataset=dict(_base_.crc5_tiles, pipeline=train_pipeline))
optim_wrapper = _base_.crc5_adamw
param_scheduler = _base_.crc5_schedule
train_cfg = dict(max_epochs=_base_.crc5_epochs)
default_hooks = _base_.crc5_hooks
test_cfg = _base_.crc5_probes
test_dataloader = dict()
test_evaluator = dict()
