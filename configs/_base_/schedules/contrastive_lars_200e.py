"""SimCLR and BYOL on NCT-CRC: LARS, warm-up, cosine to 0, 200 epochs of
batches of 1,024; the rate is SimCLR's in ConCL.
"""

# ========================= Frequently modified =========================
max_epochs = 200
# For a total batch of 1,024; --auto-scale-lr scales it to yours.
base_lr = 0.6

# ========================== Possibly modified ==========================
weight_decay = 1e-6
warmup_epochs = 10

# ====================== Unmodified in most cases =======================
# Norms and biases: no decay, and the plain rate, not LARS's for the layer.
excluded = dict(decay_mult=0.0, lars_exclude=True)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='LARS', lr=base_lr, momentum=0.9, weight_decay=weight_decay),
    paramwise_cfg=dict(
        custom_keys={
            'bn': excluded,
            'bias': excluded,
            # The norm of a shortcut.
            'downsample.1': excluded,
        }))

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
auto_scale_lr = dict(base_batch_size=1024)
