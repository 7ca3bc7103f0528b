"""MoCo v1 at a size for two CPU cores, like MoCo v2's small run; the rate
falls at the same shares of the run as in 200 epochs.

Learning rate 0.03 for batches of 1 x 32, 30 epochs; data/lc25000/tiles and
data/glas_tiles.
"""

_base_ = [
    '../mocov1_resnet18_8xb32-steplr-200e_nct.py',
    '../../../_base_/he_tiles_pretrain.py',
]

# ========================= Frequently modified =========================
view_size = 128
max_epochs = 30
milestones = [18, 24]
queue_len = 1024

# ====================== Unmodified in most cases =======================
model = dict(queue_len=queue_len)
param_scheduler = [dict(_base_.steps, milestones=milestones)]
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
