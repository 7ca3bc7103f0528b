"""Supervised pre-training at a size for two CPU cores: ResNet-18 tells the
three lung classes of LC25000 apart.

The labels of three lung classes replace those of nine tissues of the colon;
GlaS's crops have none and stay out. No tile is held back: LC25000's are copies
of few sources, so an accuracy would say little.
"""

_base_ = [
    '../supervised_resnet18_8xb32-steplr-100e_nct.py',
    '../../../_base_/he_tiles_pretrain.py',
]

# ========================= Frequently modified =========================
# A folder for each class.
data_root = 'data/lc25000/tiles'
classes = ('lung_aca', 'lung_n', 'lung_scc')
image_size = 128
max_epochs = 30
milestones = [24]
base_lr = 0.0125
num_workers = 1

# ====================== Unmodified in most cases =======================
model = dict(head=dict(num_classes=len(classes)))
train_dataloader = dict(
    batch_size=32,
    num_workers=num_workers,
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root=data_root,
        metainfo=dict(classes=classes),
        pipeline=[
            _base_.load_tile,
            dict(_base_.crop, scale=image_size),
            _base_.flip,
            _base_.pack_tile,
        ]))
val_dataloader = None
val_evaluator = None
val_cfg = None
test_dataloader = None
test_evaluator = None
test_cfg = None
optim_wrapper = dict(
    type='mmmedmask.Bfloat16OptimWrapper', optimizer=dict(lr=base_lr))
auto_scale_lr = dict(base_batch_size=32)
param_scheduler = [dict(_base_.steps, milestones=milestones)]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = _base_.he_tiles_hooks
