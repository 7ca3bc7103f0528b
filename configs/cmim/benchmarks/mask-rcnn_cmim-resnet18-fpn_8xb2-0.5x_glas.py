"""GlaS, 0.5x: 2,500 iterations (Table 3)."""

_base_ = './mask-rcnn_cmim-resnet18-fpn_8xb2-1x_glas.py'

max_iters = 2500
milestones = [2000]

train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [_base_.warm_up, dict(_base_.steps, milestones=milestones)]
