"""Mask R-CNN with a ViT-S/16 on GlaS at a size for two CPU cores.

Learning rate 1e-4 for batches of 1 x 2, 300 iterations; data/glas.
"""

_base_ = [
    '../../../_base_/models/mask-rcnn_vit-small-sfp.py',
    '../../../_base_/datasets/glas_half.py',
    '../../../_base_/schedules/gland_vit_300i.py',
    '../../../_base_/gland_runtime.py',
]

# ========================= Frequently modified =========================
checkpoint = ('work_dirs/mae_vit-small-p16_1xb32-coslr-30e_he-tiles/'
              'epoch_30.pth')

# ====================== Unmodified in most cases =======================
model = dict(
    # The size of images in pre-training.
    backbone=dict(img_size=128, init_cfg=dict(checkpoint=checkpoint)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64))))
default_hooks = dict(
    checkpoint=dict(interval=_base_.max_iters),
    # Pre-training's last norm, which ViTDet leaves out.
    load_check=dict(allowed_unused=['ln1.*']))
