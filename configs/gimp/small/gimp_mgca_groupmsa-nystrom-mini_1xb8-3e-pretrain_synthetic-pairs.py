"""MGCA's objective on the synthetic pairing."""

_base_ = [
    './gimp_biovil_groupmsa-nystrom-mini_1xb8-3e-pretrain_synthetic-pairs.py',
]

model = dict(contrast_head=dict(_delete_=True, type='mmmedmask.MGCAHead'))
