"""ConCL at a size for two CPU cores, like MoCo v2's small run; MoCo alone for
the same tenth of the epochs as in the full run.

Learning rate 0.03 for batches of 1 x 32, 30 epochs; data/lc25000/tiles and
data/glas_tiles.
"""

_base_ = [
    '../concl_resnet18_8xb32-coslr-200e_nct.py',
    '../../../_base_/he_tiles_pretrain.py',
]

# ========================= Frequently modified =========================
view_size = 128
max_epochs = 30
warm_up_epochs = 3
queue_len = 1024

# ====================== Unmodified in most cases =======================
model = dict(
    data_preprocessor=dict(view_size=view_size),
    queue_len=queue_len,
    warm_up_epochs=warm_up_epochs)
train_dataloader = dict(
    _base_.he_tiles_loader,
    dataset=dict(_base_.he_tiles, pipeline=_base_.train_pipeline))
optim_wrapper = dict(type='mmmedmask.Bfloat16OptimWrapper')
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_epochs=max_epochs)
default_hooks = _base_.he_tiles_hooks
