"""RetinaNet, ResNet-18-FPN, on GlaS from CMIM weights.

Learning rate 0.01 for batches of 8 x 2, 5,000 iterations; data/glas.
"""

_base_ = [
    '../../_base_/models/retinanet_resnet18-fpn.py',
    '../../_base_/datasets/glas_instance.py',
    '../../_base_/schedules/gland_1x_glas.py',
    '../../_base_/gland_runtime.py',
]

# ========================= Frequently modified =========================
# A pre-training run's checkpoint, or an exported backbone.
checkpoint = 'work_dirs/cmim_resnet18_8xb32-coslr-800e_nct/epoch_800.pth'
base_lr = 0.01

# ====================== Unmodified in most cases =======================
model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
optim_wrapper = dict(optimizer=dict(lr=base_lr))
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
