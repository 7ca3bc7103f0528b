"""CMIM, ResNet-18, 800 epochs on NCT-CRC-HE-100K: the paper's main run."""

_base_ = [
    '../_base_/models/cmim_resnet18.py',
    '../_base_/datasets/nct_tiles_cmim.py',
    '../_base_/schedules/cmim_sgd_800e.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(
    checkpoint=dict(interval=10, max_keep_ckpts=3),
    nan_guard=dict(type='mmmedmask.NaNGuardHook'))
custom_hooks = [dict(type='mmmedmask.ReconstructionPanelHook', interval=50)]
