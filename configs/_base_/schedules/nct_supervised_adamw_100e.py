"""Supervised ViT on NCT-CRC: AdamW, warm-up, cosine to 0.

100 epochs of batches of 256, as ConCL trains its supervised ResNet-18; rates
and decay of DeiT instead of its SGD.
"""

_base_ = './warm_up_cosine.py'

# ========================= Frequently modified =========================
max_epochs = 100
# 5e-4 per 512 images, for a total batch of 256; --auto-scale-lr scales it to
# yours.
base_lr = 5e-4 * 256 / 512

# ========================== Possibly modified ==========================
warmup_epochs = 5

# ====================== Unmodified in most cases =======================
# Not decayed are norms, biases, the class token and positions.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=base_lr, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys=dict(
            cls_token=dict(decay_mult=0.0), pos_embed=dict(decay_mult=0.0))))

warm_up = dict(_base_.warm_up, start_factor=1e-3, end=warmup_epochs)
cosine = dict(_base_.cosine, begin=warmup_epochs)
param_scheduler = [warm_up, cosine]
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=256)
