"""GiMP's pre-training: AdamW, 1e-4, cosine, 100 epochs (section 3.1)."""

_base_ = './warm_up_cosine.py'

# ========================= Frequently modified =========================
max_epochs = 100
# For a total batch of 16; --auto-scale-lr scales it to yours.
base_lr = 1e-4

# ========================== Possibly modified ==========================
# Not in the paper: warm-up, weight decay (AdamW's own) and clipping.
warmup_epochs = 5
weight_decay = 0.01
max_norm = 1.0

# ====================== Unmodified in most cases =======================
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=base_lr, weight_decay=weight_decay),
    clip_grad=dict(max_norm=max_norm))

warm_up = dict(_base_.warm_up, start_factor=1e-3, end=warmup_epochs)
cosine = dict(_base_.cosine, begin=warmup_epochs)
param_scheduler = [warm_up, cosine]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=16)
