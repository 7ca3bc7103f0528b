"""Segment Anything with a grid of points, on GlaS."""

_base_ = [
    '../../../_base_/datasets/glas_instance.py',
    '../../../_base_/models/segment-anything.py',
    '../../../_base_/default_runtime.py',
]

default_scope = 'mmdet'

# SAM resizes images itself; true boxes stay where they are.
test_dataloader = dict(
    dataset=dict(
        pipeline=[_base_.load_image, _base_.load_masks, _base_.pack_test]))
train_dataloader = val_dataloader = val_evaluator = None
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    visualization=dict(type='mmmedmask.PredictionPicturesHook'))
visualizer = dict(type='DetLocalVisualizer')
