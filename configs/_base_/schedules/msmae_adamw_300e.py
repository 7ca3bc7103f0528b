"""MSMAE's pre-training: AdamW, 40 epochs of warm-up, cosine to 0 (Table 4)."""

_base_ = './warm_up_cosine.py'

# ========================= Frequently modified =========================
max_epochs = 300
# 1e-3 per 256 images, for a total batch of 64; --auto-scale-lr scales it to
# yours.
base_lr = 1e-3 * 64 / 256

# ====================== Unmodified in most cases =======================
# Not decayed are norms, biases, tokens and position embeddings.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=base_lr, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys=dict(
            cls_token=dict(decay_mult=0.0),
            mask_token=dict(decay_mult=0.0),
            pos_embed=dict(decay_mult=0.0))))

train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=64)
