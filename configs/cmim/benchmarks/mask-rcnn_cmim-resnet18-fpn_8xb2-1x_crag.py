"""Mask R-CNN, ResNet-18-FPN, on CRAG from CMIM weights: the paper's main
result, 1x schedule.
"""

_base_ = [
    '../../_base_/models/mask-rcnn_resnet18-fpn.py',
    '../../_base_/datasets/crag_instance.py',
    '../../_base_/schedules/gland_1x_crag.py',
    '../../_base_/gland_runtime.py',
]

# ========================= Frequently modified =========================
# A pre-training run's checkpoint, or an exported backbone.
checkpoint = 'work_dirs/cmim_resnet18_8xb32-coslr-800e_nct/epoch_800.pth'
data_root = 'data/crag/'
classes = ('gland', )
batch_size = 2  # per GPU
# For 8 GPUs x 2 images; --auto-scale-lr scales it to your total batch.
base_lr = 0.02
max_iters = 15000
milestones = [10000, 13000]
# The paper averages five runs: seeds 0 to 4.
seed = 0

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=dict(init_cfg=dict(checkpoint=checkpoint)),
    roi_head=dict(
        bbox_head=dict(num_classes=len(classes)),
        mask_head=dict(num_classes=len(classes))))
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(batch_size=batch_size, dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
val_evaluator = dict(ann_file=data_root + _base_.test_ann_file)
test_evaluator = val_evaluator
randomness = dict(seed=seed)
optim_wrapper = dict(optimizer=dict(lr=base_lr))
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [_base_.warm_up, dict(_base_.steps, milestones=milestones)]
