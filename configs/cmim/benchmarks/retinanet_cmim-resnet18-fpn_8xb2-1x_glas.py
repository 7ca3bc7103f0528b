"""RetinaNet, ResNet-18-FPN, on GlaS from CMIM weights."""

_base_ = [
    '../../_base_/models/retinanet_resnet18-fpn.py',
    '../../_base_/datasets/glas_instance.py',
    '../../_base_/schedules/gland_1x_glas.py',
    '../../_base_/gland_runtime.py',
]

# ========================= Frequently modified =========================
# A pre-training run's checkpoint, or an exported backbone. Image sizes,
# batch size and workers stand at the top of the data set's base.
checkpoint = 'work_dirs/cmim_resnet18_8xb32-coslr-800e_nct/epoch_800.pth'
data_root = 'data/glas/'
classes = ('gland', )
# The paper averages five runs: seeds 0 to 4.
seed = 0

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=dict(init_cfg=dict(checkpoint=checkpoint)),
    bbox_head=dict(num_classes=len(classes)))
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
val_evaluator = dict(ann_file=data_root + _base_.test_ann_file, metric='bbox')
test_evaluator = val_evaluator
randomness = dict(seed=seed)
optim_wrapper = dict(optimizer=dict(lr=0.01))
