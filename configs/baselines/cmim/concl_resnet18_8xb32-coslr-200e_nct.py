"""ConCL, ResNet-18, 200 epochs on NCT-CRC-HE-100K: its authors' setting.

Learning rate 0.03 for batches of 8 x 32, 200 epochs; data/NCT.
"""

_base_ = [
    '../../_base_/models/concl_resnet18.py',
    '../../_base_/datasets/nct_tiles_cmim.py',
    '../../_base_/schedules/concl_sgd_200e.py',
    '../../_base_/default_runtime.py',
]

default_hooks = dict(
    checkpoint=dict(interval=10, max_keep_ckpts=3),
    movement=dict(type='mmmedmask.MovementHook'),
    nan_guard=dict(type='mmmedmask.NaNGuardHook'))
