"""DenseCL at a size for two CPU cores, like MoCo v2's small run; the dense
loss counts after a twelfth of the iterations.

Learning rate 0.03 for batches of 1 x 32, 30 epochs; data/lc25000/tiles and
data/glas_tiles.
"""

_base_ = [
    './mocov2_resnet18_1xb32-coslr-30e_he-tiles.py',
    '../../../_base_/models/densecl.py',
]

# ========================= Frequently modified =========================
start_iters = 100

# ====================== Unmodified in most cases =======================
model = _base_.densecl_model
default_hooks = dict(
    densecl=dict(_base_.densecl_hook, start_iters=start_iters))
