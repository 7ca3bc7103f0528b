"""SparK at a size for two CPU cores: the tiles, epochs and batches of CMIM's
small run. The masks' patches stay 32 pixels, which are the stride of the
encoder: a grid of 4 x 4 on images of 128. The rate is ten times that of the
full run, whose schedule is twenty times as long.

Learning rate 1e-3 for batches of 1 x 32, 30 epochs, mask ratio 0.6;
data/lc25000/tiles and data/glas_tiles.
"""

_base_ = [
    '../spark_sparse-resnet18_8xb32-coslr-800e_nct.py',
    '../../../_base_/he_tiles_pretrain.py',
]

# ========================= Frequently modified =========================
image_size = 128
max_epochs = 30
base_lr = 1e-3
warmup_epochs = 2

# ====================== Unmodified in most cases =======================
# A target without the stain, as CMIM's small run has it.
model = dict(
    input_size=image_size, head=dict(type='mmmedmask.ChannelSparKHead'))
crop = dict(_base_.crop, scale=image_size)
train_pipeline = [_base_.load_tile, crop, _base_.flip, _base_.pack_tile]
train_dataloader = dict(
    _base_.he_tiles_loader,
    dataset=dict(_base_.he_tiles, pipeline=train_pipeline))
param_scheduler = [
    dict(_base_.warm_up, end=warmup_epochs),
    dict(_base_.cosine, begin=warmup_epochs),
    _base_.growing_decay,
]
optim_wrapper = dict(optimizer=dict(lr=base_lr))
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(
    _base_.he_tiles_hooks,
    # In the place of NCT's split.
    loss_floors=dict(
        _base_.he_tiles_floors,
        held_out=dict(_delete_=True, **_base_.he_tiles_floors['held_out'])))
