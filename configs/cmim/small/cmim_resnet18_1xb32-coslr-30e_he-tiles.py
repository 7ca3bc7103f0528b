"""CMIM at a size that two CPU cores finish in an hour.

Views of 128 pixels instead of 224, mask patches of 16 instead of 32 (an
8x8 grid, near the paper's 7x7), some 1,300 tiles, bfloat16 on the CPU, and
the optimiser and target of the config for your own tiles.

Learning rate 1e-3 for batches of 1 x 32, 30 epochs, mask ratio 0.7;
data/lc25000/tiles and data/glas_tiles.
"""

_base_ = [
    '../cmim_resnet18_1xb32-coslr-800e_tile-folder.py',
    '../../_base_/he_tiles_pretrain.py',
]

# ========================= Frequently modified =========================
view_size = 128
patch_size = 16
max_epochs = 30
base_lr = 1e-3
warm_up_iters = 50

# ====================== Unmodified in most cases =======================
model = dict(
    channels_last=True,
    data_preprocessor=dict(view_size=view_size, patch_size=patch_size),
    neck=dict(out_stride=patch_size),
    head=dict(patch_size=patch_size))
train_dataloader = dict(
    _base_.he_tiles_loader,
    dataset=dict(data_root=_base_.he_tiles_roots, held_out_share=0))
optim_wrapper = dict(
    type='mmmedmask.Bfloat16OptimWrapper', optimizer=dict(lr=base_lr))
param_scheduler = [dict(_base_.warm_up, end=warm_up_iters), _base_.cosine]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(
    _base_.he_tiles_hooks,
    loss_floors=_base_.he_tiles_floors,
    reconstruction_panel=dict(interval=10))
