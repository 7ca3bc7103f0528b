"""SETR's optimisation in MSMAE: Adam, cosine per epoch (paper, Table 6)."""

# ========================= Frequently modified =========================
max_epochs = 200
# For a batch of 8; --auto-scale-lr scales it to yours.
base_lr = 1e-4

# ====================== Unmodified in most cases =======================
optim_wrapper = dict(
    type='OptimWrapper',
    # Weight decay is Adam's own, added to the gradient.
    optimizer=dict(type='Adam', lr=base_lr, weight_decay=1e-4))

# Ends with the last epoch: a child that trains longer or shorter changes
# train_cfg alone. The paper leaves the last rate open, its code has 1e-5.
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True)
]

train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=8)
