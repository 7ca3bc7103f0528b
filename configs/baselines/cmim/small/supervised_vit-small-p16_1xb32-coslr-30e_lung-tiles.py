"""Supervised ViT-S/16 at a size for two CPU cores: the three lung classes of
LC25000, as in the small run of ResNet-18, with the rate of the full run.

Learning rate 2.5e-4 for batches of 1 x 32, 30 epochs; data/lc25000/tiles.
"""

_base_ = [
    '../supervised_vit-small-p16_8xb32-coslr-100e_nct.py',
    '../../../_base_/he_tiles_pretrain.py',
]

# ========================= Frequently modified =========================
# A folder for each class.
data_root = 'data/lc25000/tiles'
classes = ('lung_aca', 'lung_n', 'lung_scc')
image_size = 128
max_epochs = 30
warmup_epochs = 2
num_workers = 1

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=dict(img_size=image_size), head=dict(num_classes=len(classes)))
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
optim_wrapper = dict(type='mmmedmask.Bfloat16OptimWrapper')
auto_scale_lr = dict(base_batch_size=32)
param_scheduler = [
    dict(_base_.warm_up, end=warmup_epochs),
    dict(_base_.cosine, begin=warmup_epochs),
]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = _base_.he_tiles_hooks
