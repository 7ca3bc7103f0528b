"""CMIM at the size of the demo: half a minute on two CPU cores.

Tiles of 96 pixels of the one tissue image that scikit-image ships; views of
64 pixels with mask patches of 8, the 8x8 grid of the small runs.
"""

_base_ = '../cmim_resnet18_1xb32-coslr-800e_tile-folder.py'

# ========================= Frequently modified =========================
# Written by tools/demo.py.
data_root = 'demo_output/data/ihc_tiles/train/'
held_out_root = 'demo_output/data/ihc_tiles/held_out/'
masked_root = 'demo_output/data/gland_phantoms/'
view_size = 64
patch_size = 8
max_epochs = 12
base_lr = 1.5e-3
# Plain pixels: in 48 iterations colour is what can be learned, and pictures
# show what the model itself draws.
norm_pix = False

# ========================== Possibly modified ==========================
# Both views see most of a tile: there is little context in 64 pixels.
views = dict(scale=(0.4, 1.0))
# Mean and std of the tiles.
mean = [178.2, 158.4, 143.1]
std = [48.5, 53.0, 63.4]
panel_interval = 6

# ====================== Unmodified in most cases =======================
model = dict(
    channels_last=True,
    data_preprocessor=dict(
        mean=mean,
        std=std,
        view_size=view_size,
        patch_size=patch_size,
        views=views),
    neck=dict(out_stride=patch_size),
    head=dict(patch_size=patch_size, norm_pix=norm_pix))
train_dataloader = dict(
    batch_size=32,
    # Decoding takes a hundredth of a step; workers would take a core away.
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(data_root=data_root, held_out_share=0))
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [dict(_base_.warm_up, end=10), _base_.cosine]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(
    logger=dict(interval=1),
    loss_floors=dict(
        held_out=dict(data_root=held_out_root),
        interval=panel_interval),
    # Drawn glands, as there are no labels for the tissue.
    probe=dict(
        type='mmmedmask.ProbeHook',
        dense=masked_root,
        few=[None],
        max_images=8,
        interval=max_epochs),
    checkpoint=dict(interval=max_epochs, max_keep_ckpts=1),
    reconstruction_panel=dict(interval=panel_interval))
log_processor = dict(window_size=1)
