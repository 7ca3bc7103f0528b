"""CRAG, 1x, for transformers: ConCL's iterations and steps, ViTDet's AdamW."""

_base_ = './gland_vit_1x_glas.py'

# ========================= Frequently modified =========================
max_iters = 15000
milestones = [10000, 13000]

# ====================== Unmodified in most cases =======================
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [_base_.warm_up, dict(_base_.steps, milestones=milestones)]
