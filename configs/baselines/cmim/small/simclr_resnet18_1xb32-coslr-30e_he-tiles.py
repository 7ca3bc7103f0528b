"""SimCLR at a size for two CPU cores: the tiles, epochs, views and batches
of CMIM's small run. LARS keeps the rate of the full run, of which a step
changes a layer by a share that does not depend on the batch.

Learning rate 0.6 for batches of 1 x 32, 30 epochs; data/lc25000/tiles and
data/glas_tiles.
"""

_base_ = [
    '../simclr_resnet18_8xb128-coslr-200e_nct.py',
    '../../../_base_/he_tiles_pretrain.py',
]

# ========================= Frequently modified =========================
view_size = 128
max_epochs = 30
warmup_epochs = 2

# ====================== Unmodified in most cases =======================
crop = dict(_base_.crop, scale=view_size)
train_pipeline = [
    _base_.load_tile,
    dict(type='MultiView', num_views=2, transforms=[[crop, *_base_.colors]]),
    _base_.pack_views,
]
train_dataloader = dict(
    _base_.he_tiles_loader,
    dataset=dict(_base_.he_tiles, pipeline=train_pipeline))
param_scheduler = [
    dict(_base_.warm_up, end=warmup_epochs),
    dict(_base_.cosine, begin=warmup_epochs),
]
optim_wrapper = dict(type='mmmedmask.Bfloat16OptimWrapper')
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_epochs=max_epochs)
default_hooks = _base_.he_tiles_hooks
