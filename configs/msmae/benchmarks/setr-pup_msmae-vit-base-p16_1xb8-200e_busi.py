"""SETR-PUP with ViT-B/16 on BUSI from MSMAE weights: Table 2, "Ours".

Learning rate 1e-4 for batches of 1 x 8, 200 epochs; data/busi.
"""

_base_ = [
    '../../_base_/models/setr-pup_vit-base.py',
    '../../_base_/datasets/busi_setr.py',
    '../../_base_/schedules/setr_adam_200e.py',
    '../../_base_/setr_runtime.py',
]

# ========================= Frequently modified =========================
# A pre-training run's checkpoint. Image size, batch size and workers stand at
# the top of the data set's base.
checkpoint = 'work_dirs/msmae_vit-base-p16_1xb64-coslr-300e_busi/epoch_300.pth'
data_root = 'data/busi/'
split_folder = 'splits/grouped'
seed = 0

# ====================== Unmodified in most cases =======================
model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
dataset = dict(data_root=data_root, split_folder=split_folder)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root)
test_evaluator = val_evaluator
randomness = dict(seed=seed)
