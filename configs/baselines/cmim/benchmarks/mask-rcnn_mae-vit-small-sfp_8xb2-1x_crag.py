"""Mask R-CNN, ViT-S/16 with a simple pyramid, on CRAG from MAE weights: 1x
schedule (Table 1).

Learning rate 1e-4 for batches of 8 x 2, 15,000 iterations; data/crag.
"""

_base_ = [
    '../../../_base_/models/mask-rcnn_vit-small-sfp.py',
    '../../../_base_/datasets/crag_instance.py',
    '../../../_base_/schedules/gland_vit_1x_crag.py',
    '../../../_base_/gland_runtime.py',
]

# ========================= Frequently modified =========================
# A pre-training run's checkpoint, or an exported backbone.
checkpoint = 'work_dirs/mae_vit-small-p16_8xb32-coslr-800e_nct/epoch_800.pth'

# ====================== Unmodified in most cases =======================
model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
default_hooks = dict(
    # Pre-training's last norm, which ViTDet leaves out.
    load_check=dict(allowed_unused=['ln1.*']))
