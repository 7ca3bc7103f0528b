"""CMIM, ResNet-18, 800 epochs on NCT-CRC-HE-100K: the paper's main run."""

_base_ = [
    '../_base_/models/cmim_resnet18.py',
    '../_base_/datasets/nct_tiles_cmim.py',
    '../_base_/schedules/cmim_sgd_800e.py',
    '../_base_/cmim_runtime.py',
]

# ========================= Frequently modified =========================
data_root = 'data/NCT/'
batch_size = 32  # per GPU
# For a total batch of 256; --auto-scale-lr scales it to yours.
base_lr = 0.03
max_epochs = 800
# Share of masked patches; 0.7 is the paper's best (Figure 4).
mask_ratio = 0.7

# ====================== Unmodified in most cases =======================
model = dict(data_preprocessor=dict(mask_ratio=mask_ratio))
train_dataloader = dict(
    batch_size=batch_size, dataset=dict(data_root=data_root))
optim_wrapper = dict(optimizer=dict(lr=base_lr))
train_cfg = dict(max_epochs=max_epochs)
