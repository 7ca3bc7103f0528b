"""MoCo v3 with a transformer: AdamW, 40 epochs of warm-up, cosine to 0."""

# ========================= Frequently modified =========================
max_epochs = 300
# 1.5e-4 per 256 images, for a total batch of 64; --auto-scale-lr scales it to
# yours.
base_lr = 1.5e-4 * 64 / 256

# ========================== Possibly modified ==========================
warmup_epochs = 40

# ====================== Unmodified in most cases =======================
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=base_lr, betas=(0.9, 0.999), weight_decay=0.1))

# The cosine ends with the last epoch: a child that trains longer or shorter
# changes train_cfg alone, unless it is no longer than the warm-up.
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        by_epoch=True,
        begin=0,
        end=warmup_epochs,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        by_epoch=True,
        begin=warmup_epochs,
        convert_to_iter_based=True)
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=64)
