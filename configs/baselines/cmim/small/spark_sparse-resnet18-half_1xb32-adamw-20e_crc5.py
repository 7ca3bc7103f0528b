"""SparK on CRC5, with the tiles, the width, the optimiser and the target of
CMIM's run. Its mask patches are cells of the last map, 32 pixels.

Learning rate 1e-3 for batches of 1 x 32, 20 epochs, mask ratio 0.6;
data/crc5/training.
"""

_base_ = [
    './spark_sparse-resnet18_1xb32-coslr-30e_he-tiles.py',
    '../../../_base_/crc5_pretrain.py',
]

# ========================= Frequently modified =========================
held_out_root = 'data/crc5/test'
mask_ratio = 0.6

# ====================== Unmodified in most cases =======================
model = dict(
    input_size=_base_.crc5_view_size,
    mask_ratio=mask_ratio,
    backbone=_base_.crc5_width,
    enc_dec_norm_dim=256,
    neck=dict(feature_dim=256))
crop = dict(_base_.crop, scale=_base_.crc5_view_size)
train_pipeline = [_base_.load_tile, crop, _base_.flip, _base_.pack_tile]
train_dataloader = dict(
    _base_.crc5_loader,
    dataset=dict(_base_.crc5_tiles, pipeline=train_pipeline))
optim_wrapper = _base_.crc5_adamw
param_scheduler = _base_.crc5_schedule
train_cfg = dict(max_epochs=_base_.crc5_epochs)
default_hooks = dict(
    _base_.crc5_hooks,
    loss_floors=dict(
        held_out=dict(_delete_=True, data_root=held_out_root),
        optional=True))
test_cfg = _base_.crc5_probes
test_dataloader = dict()
test_evaluator = dict()
