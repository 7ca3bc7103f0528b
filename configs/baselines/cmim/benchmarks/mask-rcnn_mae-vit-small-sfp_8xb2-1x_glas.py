"""Mask R-CNN, ViT-S/16 with a simple pyramid, on GlaS from MAE weights: 1x
schedule (Table 1).
"""

_base_ = [
    '../../../_base_/models/mask-rcnn_vit-small-sfp.py',
    '../../../_base_/datasets/glas_instance.py',
    '../../../_base_/schedules/gland_vit_1x_glas.py',
    '../../../_base_/gland_runtime.py',
]

# ========================= Frequently modified =========================
# A pre-training run's checkpoint, or an exported backbone. Image sizes,
# batch size and workers stand at the top of the data set's base.
checkpoint = 'work_dirs/mae_vit-small-p16_8xb32-coslr-800e_nct/epoch_800.pth'
data_root = 'data/glas/'
classes = ('gland', )
# The paper averages five runs: seeds 0 to 4.
seed = 0

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=dict(init_cfg=dict(checkpoint=checkpoint)),
    roi_head=dict(
        bbox_head=dict(num_classes=len(classes)),
        mask_head=dict(num_classes=len(classes))))
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
val_evaluator = dict(ann_file=data_root + _base_.test_ann_file)
test_evaluator = val_evaluator
default_hooks = dict(
    # Pre-training's last norm, which ViTDet leaves out.
    load_check=dict(allowed_unused=['ln1.*']))
randomness = dict(seed=seed)
