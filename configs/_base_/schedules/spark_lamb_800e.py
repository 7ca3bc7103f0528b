"""SparK's optimisation for 800 epochs of batches of 256: LAMB, warm-up,
cosine to 0, and a weight decay that grows.
"""

_base_ = './warm_up_cosine.py'

# ========================= Frequently modified =========================
max_epochs = 800
# 2e-4 per 512 images, for a total batch of 256; --auto-scale-lr scales it to
# yours.
base_lr = 2e-4 * 256 / 512

# ========================== Possibly modified ==========================
# Weight decay at the start and at the end.
weight_decay = (0.04, 0.2)

# ====================== Unmodified in most cases =======================
# Not decayed are norms, biases and tokens.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='Lamb',
        lr=base_lr,
        betas=(0.9, 0.95),
        weight_decay=weight_decay[0],
        # It clips by itself, to a norm of 1 unless told.
        max_grad_norm=5.0),
    paramwise_cfg=dict(
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys=dict(mask_token=dict(decay_mult=0.0))))

growing_decay = dict(
    type='CosineAnnealingWeightDecay',
    eta_min=weight_decay[1],
    by_epoch=True,
    begin=0,
    convert_to_iter_based=True)
param_scheduler = [_base_.warm_up, _base_.cosine, growing_decay]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=256)
