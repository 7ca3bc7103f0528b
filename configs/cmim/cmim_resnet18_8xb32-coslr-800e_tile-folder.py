"""CMIM on a folder of your own tiles: inherit it and set data_root.

    _base_ = 'mmmedmask::cmim/cmim_resnet18_8xb32-coslr-800e_tile-folder.py'
    train_dataloader = dict(dataset=dict(data_root='path/to/tiles'))
"""

_base_ = [
    '../_base_/models/cmim_resnet18.py',
    '../_base_/datasets/tile_folder_cmim.py',
    '../_base_/schedules/cmim_sgd_800e.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(
    checkpoint=dict(interval=10, max_keep_ckpts=3),
    nan_guard=dict(type='mmmedmask.NaNGuardHook'))
custom_hooks = [dict(type='mmmedmask.ReconstructionPanelHook', interval=50)]
