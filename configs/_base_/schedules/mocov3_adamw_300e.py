"""MoCo v3 with a transformer: AdamW, 40 epochs of warm-up, cosine to 0."""

_base_ = './warm_up_cosine.py'

# ========================= Frequently modified =========================
max_epochs = 300
# 1.5e-4 per 256 images, for a total batch of 64; --auto-scale-lr scales it to
# yours.
base_lr = 1.5e-4 * 64 / 256

# ====================== Unmodified in most cases =======================
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=base_lr, betas=(0.9, 0.999), weight_decay=0.1))

train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=64)
