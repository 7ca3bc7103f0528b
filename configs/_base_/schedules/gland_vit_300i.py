"""Glands with a transformer at a size for two CPU cores: 300 iterations of 2
images, bfloat16; AdamW and rates layer by layer as in the full schedule.
"""

_base_ = './gland_300i.py'

# ========================= Frequently modified =========================
# For batches of 2 on one device.
base_lr = 1e-4
layer_decay_rate = 0.7

# ====================== Unmodified in most cases =======================
optim_wrapper = dict(
    _delete_=True,
    type='mmmedmask.Bfloat16OptimWrapper',
    constructor='mmmedmask.BackboneLayerDecayConstructor',
    optimizer=dict(type='AdamW', lr=base_lr, weight_decay=0.1),
    paramwise_cfg=dict(
        layer_decay_rate=layer_decay_rate,
        norm_decay_mult=0.0,
        custom_keys=dict(pos_embed=dict(decay_mult=0.0))))
