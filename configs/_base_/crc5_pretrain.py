"""What the pre-training runs on CRC5's tiles have in common: the tiles,
AdamW, half the width, and probes instead of a test.

The keys are taken up by name, ``optim_wrapper = _base_.crc5_adamw``: a run
inherits its method from another file.
"""

# ========================= Frequently modified =========================
crc5_root = 'data/crc5/training'
crc5_view_size = 96
# 100,000 tiles in batches of 32.
crc5_epochs = 20
crc5_lr = 1e-3

# ========================== Possibly modified ==========================
crc5_warm_up = 50  # iterations
# Gradients are cut to this norm.
crc5_max_norm = 5.0

# ====================== Unmodified in most cases =======================
# Norms, biases and tokens do not decay.
crc5_adamw = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=crc5_lr, betas=(0.9, 0.95), weight_decay=0.05),
    clip_grad=dict(max_norm=crc5_max_norm),
    paramwise_cfg=dict(
        bias_decay_mult=0.0,
        norm_decay_mult=0.0,
        custom_keys=dict(mask_tokens=dict(decay_mult=0.0))))
crc5_cosine = dict(
    type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)
crc5_schedule = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        by_epoch=False,
        end=crc5_warm_up),
    crc5_cosine,
]
# ResNet-18 of half the width: 256 channels in the last stage.
crc5_width = dict(stem_channels=32, base_channels=32)
crc5_tiles = dict(data_root=crc5_root)
crc5_loader = dict(
    batch_size=32, num_workers=0, persistent_workers=False, pin_memory=False)
# Tiles that nothing trains on; glands against stroma.
crc5_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=1, max_keep_ckpts=-1),
    # A part of what the test probes, for curves.
    probe=dict(
        type='mmmedmask.ProbeHook',
        data='data/crc5',
        dense='data/glas_half',
        colors=['gray'],
        few=[5],
        max_images=400,
        interval=5,
        optional=True))
crc5_probes = dict(
    type='mmmedmask.ProbeLoop',
    data='data/crc5',
    colors=['rgb', 'gray', 'jitter'],
    dense='data/glas_half')
