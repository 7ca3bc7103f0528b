"""MAE at a size for two CPU cores: the tiles, epochs and batches of CMIM's
small run, with the rate of the full one. Images of 128 pixels have 64 patches.

Learning rate 1.5e-4 for batches of 1 x 32, 30 epochs, mask ratio 0.75;
data/lc25000/tiles and data/glas_tiles.
"""

_base_ = [
    '../mae_vit-small-p16_8xb32-coslr-800e_nct.py',
    '../../../_base_/he_tiles_pretrain.py',
]

# ========================= Frequently modified =========================
image_size = 128
max_epochs = 30
warmup_epochs = 2

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=dict(img_size=image_size),
    neck=dict(num_patches=(image_size // 16)**2),
    # A target without the stain, as CMIM's small run has it.
    head=dict(type='mmmedmask.ChannelMAEHead'))
crop = dict(_base_.crop, scale=image_size)
train_pipeline = [_base_.load_tile, crop, _base_.flip, _base_.pack_tile]
train_dataloader = dict(
    _base_.he_tiles_loader,
    dataset=dict(_base_.he_tiles, pipeline=train_pipeline))
optim_wrapper = dict(type='mmmedmask.Bfloat16OptimWrapper')
auto_scale_lr = dict(base_batch_size=32)
param_scheduler = [
    dict(_base_.warm_up, end=warmup_epochs),
    dict(_base_.cosine, begin=warmup_epochs),
]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(
    _base_.he_tiles_hooks,
    # In the place of NCT's split.
    loss_floors=dict(
        _base_.he_tiles_floors,
        held_out=dict(_delete_=True, **_base_.he_tiles_floors['held_out'])))
