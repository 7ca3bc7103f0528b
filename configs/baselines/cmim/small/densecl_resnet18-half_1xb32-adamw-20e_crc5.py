"""DenseCL on CRC5, with the tiles, the width and the optimiser of CMIM's run;
the dense loss counts from the first iteration.
"""

_base_ = [
    './densecl_resnet18_1xb32-coslr-30e_he-tiles.py',
    '../../../_base_/crc5_pretrain.py',
]

# ========================= Frequently modified =========================
data_root = 'data/crc5/training'
view_size = 96
max_epochs = 20
base_lr = 1e-3
momentum = 0.01

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=_base_.crc5_width,
    neck=dict(in_channels=256, hid_channels=256),
    momentum=momentum)
crop = dict(_base_.crop, scale=view_size)
train_pipeline = [
    _base_.load_tile,
    dict(type='MultiView', num_views=2, transforms=[[crop, *_base_.colors]]),
    _base_.pack_views,
]
train_dataloader = dict(
    _base_.crc5_loader,
    dataset=dict(data_root=data_root, pipeline=train_pipeline))
optim_wrapper = dict(
    _base_.crc5_adamw,
    optimizer=dict(_base_.crc5_optimizer, lr=base_lr))
param_scheduler = _base_.crc5_schedule
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(_base_.crc5_hooks, densecl=dict(start_iters=0))
test_cfg = _base_.crc5_probes
test_dataloader = dict()
test_evaluator = dict()
