"""MSMAE's fine-tuning (Table 5) in 6 epochs of batches of 64, for CPUs."""

_base_ = './msmae_adamw_finetune_100e.py'

# ========================= Frequently modified =========================
max_epochs = 6

# ========================== Possibly modified ==========================
warmup_epochs = 1

# ====================== Unmodified in most cases =======================
warm_up = dict(_base_.warm_up, end=warmup_epochs)
cosine = dict(_base_.cosine, begin=warmup_epochs)
param_scheduler = [warm_up, cosine]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
auto_scale_lr = dict(base_batch_size=64)
