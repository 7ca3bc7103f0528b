"""MSMAE's fine-tuning: AdamW, lower rates for lower layers (Table 5)."""

_base_ = './warm_up_cosine.py'

# ========================= Frequently modified =========================
max_epochs = 100
# For a total batch of 256; --auto-scale-lr scales it to yours.
base_lr = 1e-3
# Each layer learns at this share of the rate of the one above.
layer_decay_rate = 0.75

# ========================== Possibly modified ==========================
warmup_epochs = 5

# ====================== Unmodified in most cases =======================
# Not decayed are one-dimensional parameters, the class token and the
# position embedding.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=base_lr, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='LearningRateDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=layer_decay_rate,
        norm_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0)
        }))

warm_up = dict(_base_.warm_up, end=warmup_epochs)
# To 1e-6 for the head, and in proportion below.
cosine = dict(_base_.cosine, eta_min_ratio=1e-3, begin=warmup_epochs)
param_scheduler = [warm_up, cosine]
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=256)
