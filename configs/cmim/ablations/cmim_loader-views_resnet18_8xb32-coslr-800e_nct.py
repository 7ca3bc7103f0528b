"""The two views made by loader workers with Pillow, as ConCL makes them.

The reference for the batched path on the device.
"""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(
    data_preprocessor=dict(view_source='loader', views=None, color=None))
train_dataloader = dict(
    dataset=dict(pipeline=[
        _base_.load_tile,
        dict(
            type='mmmedmask.CMIMTwoViews',
            view_size=_base_.view_size,
            views=_base_.views,
            color=_base_.color),
        dict(
            type='mmmedmask.PackTile',
            meta_keys=('img_path', 'sample_idx', 'theta_query', 'theta_key')),
    ]))
default_hooks = dict(
    transform_epoch=dict(type='mmmedmask.TransformEpochHook'))
