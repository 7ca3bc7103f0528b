"""CRAG, 0.5x: 7,500 iterations (Table 3)."""

_base_ = './mask-rcnn_cmim-resnet18-fpn_8xb2-1x_crag.py'

max_iters = 7500
milestones = [5000, 6500]

train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [_base_.warm_up, dict(_base_.steps, milestones=milestones)]
