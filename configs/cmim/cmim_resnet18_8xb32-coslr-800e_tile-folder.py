"""CMIM on a folder of your own tiles: inherit it and set data_root.

    _base_ = 'mmmedmask::cmim/cmim_resnet18_8xb32-coslr-800e_tile-folder.py'
    train_dataloader = dict(dataset=dict(data_root='path/to/tiles'))
"""

_base_ = [
    '../_base_/models/cmim_resnet18.py',
    '../_base_/datasets/tile_folder_cmim.py',
    '../_base_/schedules/cmim_sgd_800e.py',
    '../_base_/cmim_runtime.py',
]

# ========================= Frequently modified =========================
# A folder, or a list of folders.
data_root = 'data/tiles/'
batch_size = 32  # per GPU
# For a total batch of 256; --auto-scale-lr scales it to yours.
base_lr = 0.03
max_epochs = 800
mask_ratio = 0.7

# ====================== Unmodified in most cases =======================
model = dict(data_preprocessor=dict(mask_ratio=mask_ratio))
train_dataloader = dict(
    batch_size=batch_size, dataset=dict(data_root=data_root))
optim_wrapper = dict(optimizer=dict(lr=base_lr))
train_cfg = dict(max_epochs=max_epochs)
