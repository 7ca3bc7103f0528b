"""GlaS, 1x, for transformers: ConCL's iterations and steps, ViTDet's AdamW.

ViTDet has 1e-4 for 64 images. It stays 1e-4 for 16, which is the habit of
1x schedules with AdamW (Swin) and of ConCL, which never rescales; 2.5e-5
would leave heads that start from nothing 5,000 short steps.
"""

_base_ = './gland_1x_glas.py'

# ========================= Frequently modified =========================
# For 8 GPUs x 2 images; with another total batch --auto-scale-lr scales it.
base_lr = 1e-4
# From layer to layer downwards, ViTDet's for the 12 layers of ViT-B.
layer_decay_rate = 0.7

# ====================== Unmodified in most cases =======================
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='mmmedmask.BackboneLayerDecayConstructor',
    optimizer=dict(type='AdamW', lr=base_lr, weight_decay=0.1),
    # Norms and positions are not decayed.
    paramwise_cfg=dict(
        layer_decay_rate=layer_decay_rate,
        norm_decay_mult=0.0,
        custom_keys=dict(pos_embed=dict(decay_mult=0.0))))
