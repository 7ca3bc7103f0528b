"""Mask R-CNN, ResNet-18-DC5, on GlaS from CMIM weights.

Learning rate 0.02 for batches of 8 x 2, 5,000 iterations; data/glas.
"""

_base_ = [
    '../../_base_/models/mask-rcnn_resnet18-dc5.py',
    '../../_base_/datasets/glas_instance.py',
    '../../_base_/schedules/gland_1x_glas.py',
    '../../_base_/gland_runtime.py',
]

# ========================= Frequently modified =========================
# A pre-training run's checkpoint, or an exported backbone.
checkpoint = 'work_dirs/cmim_resnet18_8xb32-coslr-800e_nct/epoch_800.pth'

# ====================== Unmodified in most cases =======================
model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
