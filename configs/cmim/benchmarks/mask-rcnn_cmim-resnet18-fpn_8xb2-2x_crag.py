"""CRAG, 2x: 30,000 iterations (Table 3)."""

_base_ = './mask-rcnn_cmim-resnet18-fpn_8xb2-1x_crag.py'

max_iters = 30000
milestones = [20000, 26000]

train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [_base_.warm_up, dict(_base_.steps, milestones=milestones)]
