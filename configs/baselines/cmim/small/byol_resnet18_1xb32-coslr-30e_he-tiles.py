"""BYOL at a size for two CPU cores, like SimCLR's small run.

Learning rate 0.2 for batches of 1 x 32, 30 epochs; data/lc25000/tiles and
data/glas_tiles.
"""

_base_ = [
    '../byol_resnet18_8xb128-coslr-200e_nct.py',
    '../../../_base_/he_tiles_pretrain.py',
]

# ========================= Frequently modified =========================
view_size = 128
max_epochs = 30

# ====================== Unmodified in most cases =======================
crop = dict(_base_.crop, scale=view_size)
train_pipeline = [
    _base_.load_tile,
    dict(
        type='MultiView',
        num_views=[1, 1],
        transforms=[[crop, *colors] for colors in _base_.view_colors]),
    _base_.pack_views,
]
train_dataloader = dict(
    _base_.he_tiles_loader,
    dataset=dict(_base_.he_tiles, pipeline=train_pipeline))
optim_wrapper = dict(type='mmmedmask.Bfloat16OptimWrapper')
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_epochs=max_epochs)
default_hooks = _base_.he_tiles_hooks
