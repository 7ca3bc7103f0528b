"""CMIM on a folder of your own tiles: inherit it and set data_root.

    _base_ = 'mmmedmask::cmim/cmim_resnet18_1xb32-coslr-800e_tile-folder.py'
    train_dataloader = dict(dataset=dict(data_root='path/to/tiles'))

Optimiser and target are not the paper's, but those with which the encoder
learns from few tiles, too (docs/methods/cmim.md).
"""

_base_ = [
    '../_base_/models/cmim_resnet18.py',
    '../_base_/datasets/tile_folder_cmim.py',
    '../_base_/schedules/cmim_adamw.py',
    '../_base_/cmim_runtime.py',
]

# ========================= Frequently modified =========================
# A folder, or a list of folders.
data_root = 'data/tiles/'
# Tiles that are not trained on, by their names: the loss is watched on them.
# 0 trains on all, where default_hooks.loss_floors.held_out names other tiles.
held_out_share = 0.05
batch_size = 32  # per GPU
# Measured with a total batch of 32, which is one GPU's here; --auto-scale-lr
# scales it to yours.
base_lr = 1e-3
max_epochs = 800
mask_ratio = 0.7

# ========================== Possibly modified ==========================
# What is predicted: 'channel' is normalised per patch and channel, which
# takes the stain out; False is the pixels themselves.
norm_pix = 'channel'

# ====================== Unmodified in most cases =======================
model = dict(
    data_preprocessor=dict(mask_ratio=mask_ratio),
    head=dict(norm_pix=norm_pix))
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(data_root=data_root, held_out_share=held_out_share))
optim_wrapper = dict(optimizer=dict(lr=base_lr))
train_cfg = dict(max_epochs=max_epochs)
