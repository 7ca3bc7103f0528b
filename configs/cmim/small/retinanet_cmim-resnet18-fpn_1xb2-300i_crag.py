"""RetinaNet on CRAG at a size for two CPU cores.

Learning rate 5e-3 for batches of 1 x 2, 300 iterations; data/crag.
"""

_base_ = [
    '../../_base_/models/retinanet_resnet18-fpn.py',
    '../../_base_/datasets/crag_half.py',
    '../../_base_/schedules/gland_300i.py',
    '../../_base_/gland_small_runtime.py',
]

# ========================= Frequently modified =========================
checkpoint = ('work_dirs/cmim_resnet18_1xb32-coslr-30e_he-tiles/'
              'epoch_30.pth')

# ====================== Unmodified in most cases =======================
model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=0.005))
