"""SimCLR on one GPU: LARS, 10 epochs of warm-up, cosine to 0, 300 epochs."""

_base_ = './contrastive_lars_200e.py'

# ========================= Frequently modified =========================
max_epochs = 300
# 0.3 per 256 images, for a total batch of 64; --auto-scale-lr scales it to
# yours.
base_lr = 0.3 * 64 / 256

# ====================== Unmodified in most cases =======================
optim_wrapper = dict(optimizer=dict(lr=base_lr))
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=64)
