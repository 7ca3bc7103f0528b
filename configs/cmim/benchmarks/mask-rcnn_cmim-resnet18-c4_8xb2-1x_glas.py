"""Mask R-CNN, ResNet-18-C4, on GlaS from CMIM weights, res5 included.

Learning rate 0.02 for batches of 8 x 2, 5,000 iterations; data/glas.
"""

_base_ = [
    '../../_base_/models/mask-rcnn_resnet18-c4.py',
    '../../_base_/datasets/glas_instance.py',
    '../../_base_/schedules/gland_1x_glas.py',
    '../../_base_/gland_runtime.py',
]

# ========================= Frequently modified =========================
# A pre-training run's checkpoint, or an exported backbone.
checkpoint = 'work_dirs/cmim_resnet18_8xb32-coslr-800e_nct/epoch_800.pth'

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=dict(init_cfg=dict(checkpoint=checkpoint)),
    roi_head=dict(shared_head=dict(init_cfg=dict(checkpoint=checkpoint))))
# res5 is in the RoI head: it is verified, and its statistics are measured,
# together with the backbone.
default_hooks = dict(
    load_check=dict(modules=['backbone', 'roi_head.shared_head']),
    precise_bn=dict(forward='loss'))
