"""A linear warm-up, then a cosine to 0 that ends with the last epoch.

A child that trains longer or shorter changes train_cfg alone. If it trains no
longer than the warm-up, it shortens that, too: here and in --cfg-options
``param_scheduler.0.end`` and ``param_scheduler.1.begin``.
"""

# ========================= Frequently modified =========================
max_epochs = 300

# ========================== Possibly modified ==========================
warmup_epochs = 40

# ====================== Unmodified in most cases =======================
warm_up = dict(
    type='LinearLR',
    start_factor=1e-4,
    by_epoch=True,
    begin=0,
    end=warmup_epochs,
    convert_to_iter_based=True)
cosine = dict(
    type='CosineAnnealingLR',
    by_epoch=True,
    begin=warmup_epochs,
    convert_to_iter_based=True)
param_scheduler = [warm_up, cosine]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
