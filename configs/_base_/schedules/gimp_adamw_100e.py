"""GiMP's pre-training: AdamW, 1e-4, cosine, 100 epochs (section 3.1)."""

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

# The cosine ends with the last epoch: a child that trains longer or shorter
# changes train_cfg alone.
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
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
auto_scale_lr = dict(base_batch_size=16)
