"""ResNet-18 trained on the labels of CRC5's tiles, with the tiles, the width
and the optimiser of CMIM's run.

Learning rate 1e-3 for batches of 1 x 32, 20 epochs; data/crc5/training.
"""

_base_ = [
    './supervised_resnet18_1xb32-steplr-30e_lung-tiles.py',
    '../../../_base_/crc5_pretrain.py',
]

# ========================= Frequently modified =========================
classes = ('AC', 'H', 'S', 'T', 'V')

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=_base_.crc5_width,
    head=dict(num_classes=len(classes), in_channels=256))
crop = dict(_base_.crop, scale=_base_.crc5_view_size)
train_pipeline = [_base_.load_tile, crop, _base_.flip, _base_.pack_tile]
train_dataloader = dict(
    _base_.crc5_loader,
    dataset=dict(
        _base_.crc5_tiles,
        metainfo=dict(classes=classes),
        pipeline=train_pipeline))
optim_wrapper = _base_.crc5_adamw
param_scheduler = _base_.crc5_schedule
train_cfg = dict(max_epochs=_base_.crc5_epochs)
default_hooks = _base_.crc5_hooks
test_cfg = dict(_base_.crc5_probes, _delete_=True)
test_dataloader = dict(_delete_=True)
test_evaluator = dict(_delete_=True)
