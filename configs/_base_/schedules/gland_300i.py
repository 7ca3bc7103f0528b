"""Glands at a size for two CPU cores: 300 iterations of 2 images, bfloat16.

Instead of 5,000 (GlaS) and 15,000 (CRAG) iterations of 16.
"""

_base_ = './gland_1x_glas.py'

# ========================= Frequently modified =========================
max_iters = 300
milestones = [240]
# For batches of 2 on one device.
base_lr = 0.01

# ========================== Possibly modified ==========================
warmup_iters = 50

# ====================== Unmodified in most cases =======================
optim_wrapper = dict(
    type='mmmedmask.Bfloat16OptimWrapper', optimizer=dict(lr=base_lr))
auto_scale_lr = dict(base_batch_size=2)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(_base_.warm_up, end=warmup_iters),
    dict(_base_.steps, milestones=milestones),
]
