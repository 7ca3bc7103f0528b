"""GiMP's aggregator on musk1, after masked patches of the same fold.

Learning rate 5e-4 for batches of 1 x 8, 40 epochs; data/musk1.
"""

_base_ = [
    '../../_base_/models/gimp_groupmsa-nystrom_cls.py',
    '../../_base_/datasets/musk1.py',
    '../../_base_/schedules/musk_adam_40e.py',
    '../../_base_/musk_runtime.py',
]

# ========================= Frequently modified =========================
checkpoint = (
    'work_dirs/gimp_mpm-only_nystrom-mini_1xb8-100e-pretrain_musk1/'
    'epoch_100.pth')

# ====================== Unmodified in most cases =======================
model = dict(
    data_preprocessor=dict(init_cfg=None),
    aggregator=dict(
        in_dims=166,
        embed_dims=64,
        num_heads=4,
        num_landmarks=32,
        with_cp=False,
        init_cfg=dict(checkpoint=checkpoint)),
    gene_encoder=None,
    head=dict(hidden_dims=64))
default_hooks = dict(
    load_check=dict(
        type='mmmedmask.LoadCheckHook',
        modules=['aggregator'],
        # Nothing is masked any more.
        allowed_unused=['mask_token']))
