"""SimMIM: AdamW, 10 epochs of warm-up, cosine to a twentieth."""

_base_ = './warm_up_cosine.py'

# ========================= Frequently modified =========================
max_epochs = 300
# 2e-4 per 512 images, for a total batch of 64; --auto-scale-lr scales it to
# yours.
base_lr = 2e-4 * 64 / 512

# ========================== Possibly modified ==========================
warmup_epochs = 10

# ====================== Unmodified in most cases =======================
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=base_lr, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        custom_keys={
            'norm': dict(decay_mult=0.0),
            'bias': dict(decay_mult=0.0),
            'mask_token': dict(decay_mult=0.0),
            'relative_position_bias_table': dict(decay_mult=0.0)
        }))

warm_up = dict(_base_.warm_up, start_factor=5e-3, end=warmup_epochs)
cosine = dict(_base_.cosine, eta_min_ratio=0.05, begin=warmup_epochs)
param_scheduler = [warm_up, cosine]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=64)
