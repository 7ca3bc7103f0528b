"""Masked image modelling with a ViT: AdamW, warm-up, cosine to 0 (MAE's).

800 epochs of batches of 256, as CMIM trains.
"""

_base_ = './warm_up_cosine.py'

# ========================= Frequently modified =========================
max_epochs = 800
# 1.5e-4 per 256 images; --auto-scale-lr scales it to your total batch.
base_lr = 1.5e-4

# ====================== Unmodified in most cases =======================
# Not decayed are norms, biases and tokens.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=base_lr, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys=dict(
            cls_token=dict(decay_mult=0.0), mask_token=dict(decay_mult=0.0))))

train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=256)
