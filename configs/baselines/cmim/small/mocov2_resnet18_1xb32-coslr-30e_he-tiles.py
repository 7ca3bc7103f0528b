"""MoCo v2 at a size for two CPU cores: the tiles, epochs, views and batches
of CMIM's small run. The rate is that of the full run.

Learning rate 0.03 for batches of 1 x 32, 30 epochs; data/lc25000/tiles and
data/glas_tiles.
"""

_base_ = [
    '../mocov2_resnet18_8xb32-coslr-200e_nct.py',
    '../../../_base_/he_tiles_pretrain.py',
]

# ========================= Frequently modified =========================
view_size = 128
max_epochs = 30
# Less than the 1,300 tiles: few keys are of the query's own tile.
queue_len = 1024

# ====================== Unmodified in most cases =======================
model = dict(queue_len=queue_len)
crop = dict(_base_.crop, scale=view_size)
train_pipeline = [
    _base_.load_tile,
    dict(type='MultiView', num_views=2, transforms=[[crop, *_base_.colors]]),
    _base_.pack_views,
]
train_dataloader = dict(
    _base_.he_tiles_loader,
    dataset=dict(_base_.he_tiles, pipeline=train_pipeline))
optim_wrapper = dict(type='mmmedmask.Bfloat16OptimWrapper')
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_epochs=max_epochs)
default_hooks = _base_.he_tiles_hooks
