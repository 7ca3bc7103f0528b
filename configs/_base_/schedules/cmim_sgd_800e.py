"""CMIM's optimisation: SGD, cosine to 0, no warm-up (paper, Section 4.1)."""

# ========================= Frequently modified =========================
max_epochs = 800
# For a total batch of 256; --auto-scale-lr scales it to yours.
base_lr = 0.03

# ====================== Unmodified in most cases =======================
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=base_lr, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(
        bias_decay_mult=0.0,
        custom_keys=dict(mask_tokens=dict(decay_mult=0.0))))

# Ends with the last epoch: a child that trains longer or shorter changes
# train_cfg alone.
cosine = dict(
    type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)
param_scheduler = [cosine]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=256)
