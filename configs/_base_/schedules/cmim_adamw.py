"""CMIM's optimisation where tiles, batches or epochs are few: AdamW, a
warm-up, a cosine to 0, and gradients that are cut.

The paper's SGD with the mean of the squared error hardly moves the encoder
(docs/methods/cmim.md).
"""

# ========================= Frequently modified =========================
max_epochs = 100
# For a total batch of 32; --auto-scale-lr scales it to yours.
base_lr = 1e-3

# ========================== Possibly modified ==========================
warm_up_iters = 200
# Gradients are cut to this norm; most are a tenth of it.
max_norm = 5.0

# ====================== Unmodified in most cases =======================
optimizer = dict(
    type='AdamW', lr=base_lr, betas=(0.9, 0.95), weight_decay=0.05)
# Norms, biases and tokens do not decay.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=optimizer,
    clip_grad=dict(max_norm=max_norm),
    paramwise_cfg=dict(
        bias_decay_mult=0.0,
        norm_decay_mult=0.0,
        custom_keys=dict(mask_tokens=dict(decay_mult=0.0))))

# The cosine ends with the last epoch: a child that trains longer or shorter
# changes train_cfg alone.
warm_up = dict(
    type='LinearLR', start_factor=0.01, by_epoch=False, end=warm_up_iters)
cosine = dict(
    type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)
param_scheduler = [warm_up, cosine]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=32)
