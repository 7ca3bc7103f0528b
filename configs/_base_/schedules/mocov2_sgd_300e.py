"""MoCo v2: SGD, cosine to 0."""

# ========================= Frequently modified =========================
max_epochs = 300
# 0.03 per 256 images, for a total batch of 64; --auto-scale-lr scales it to
# yours.
base_lr = 0.03 * 64 / 256

# ====================== Unmodified in most cases =======================
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='SGD', lr=base_lr, momentum=0.9, weight_decay=1e-4))
# It ends with the last epoch.
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=0)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=64)
