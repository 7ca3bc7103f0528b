"""GiMP's fine-tuning: as its pre-training, 70 epochs, with validation."""

_base_ = './gimp_adamw_100e.py'

# ========================= Frequently modified =========================
max_epochs = 70

# ====================== Unmodified in most cases =======================
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
# base_lr is for a total batch of 8 here; --auto-scale-lr scales it to yours.
auto_scale_lr = dict(base_batch_size=8)
val_cfg = dict()
test_cfg = dict()
