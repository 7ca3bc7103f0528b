"""CMIM on 5,000 colorectal tiles: ResNet-18 of half the width, views of 96
pixels, 100,000 tiles seen (docs/results/cmim.md).
"""

_base_ = [
    '../cmim_resnet18_1xb32-coslr-800e_tile-folder.py',
    '../../_base_/crc5_pretrain.py',
]

# ========================= Frequently modified =========================
data_root = 'data/crc5/training'
held_out_root = 'data/crc5/test'
view_size = 96
patch_size = 16
mask_ratio = 0.7
max_epochs = 20
base_lr = 1e-3

# ====================== Unmodified in most cases =======================
model = dict(
    channels_last=True,
    data_preprocessor=dict(
        view_size=view_size, patch_size=patch_size, mask_ratio=mask_ratio),
    backbone=_base_.crc5_width,
    neck=dict(out_stride=patch_size),
    head=dict(patch_size=patch_size))
train_dataloader = dict(
    _base_.crc5_loader, dataset=dict(data_root=data_root, held_out_share=0))
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [dict(_base_.warm_up, end=50), _base_.cosine]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(
    _base_.crc5_hooks,
    loss_floors=dict(held_out=dict(data_root=held_out_root), optional=True),
    reconstruction_panel=dict(interval=20))
test_cfg = _base_.crc5_probes
test_dataloader = dict()
test_evaluator = dict()
