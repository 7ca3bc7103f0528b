"""Mask R-CNN on CRAG at a size for two CPU cores.

Half the resolution of the full recipe, 300 iterations of 2 images, 64 RoIs
per image instead of 512, bfloat16 on the CPU.

Learning rate 0.01 for batches of 1 x 2, 300 iterations; data/crag.
"""

_base_ = [
    '../../_base_/models/mask-rcnn_resnet18-fpn.py',
    '../../_base_/datasets/crag_half.py',
    '../../_base_/schedules/gland_300i.py',
    '../../_base_/gland_small_runtime.py',
]

# ========================= Frequently modified =========================
checkpoint = ('work_dirs/cmim_resnet18_1xb32-coslr-30e_he-tiles/'
              'epoch_30.pth')

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=dict(init_cfg=dict(checkpoint=checkpoint)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64))))
