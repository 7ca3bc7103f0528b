"""Gene encoders on a cohort of hundreds: AdamW, cosine, 6 epochs."""

_base_ = './warm_up_cosine.py'

# ========================= Frequently modified =========================
# More epochs fit the training cases better and the others worse.
max_epochs = 6
base_lr = 5e-4  # for a batch of 32

# ========================== Possibly modified ==========================
warmup_epochs = 1
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
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
auto_scale_lr = dict(base_batch_size=32)
val_cfg = dict()
test_cfg = dict()
