"""MSMAE, ViT-B/16, 300 epochs on Messidor-2: the paper's main run."""

_base_ = [
    '../_base_/models/msmae_vit-base-p16.py',
    '../_base_/datasets/messidor2_images.py',
    '../_base_/schedules/msmae_adamw_300e.py',
    '../_base_/msmae_runtime.py',
]

# ========================= Frequently modified =========================
data_root = 'data/messidor2/'
# 'splits/patient' keeps both eyes of a patient on one side.
split_folder = 'splits/paper'
batch_size = 64  # per GPU
# For a total batch of 64; --auto-scale-lr scales it to yours.
base_lr = 1e-3 * 64 / 256
max_epochs = 300
# Shares of the tokens that are masked and thrown away (Tables 4 and 8c).
mask_ratio = 0.45
throw_ratio = 0.30
# lambda in Eq. 3; 0 needs no labels, which is the masking of AMT.
cls_weight = 0.1

# ========================== Possibly modified ==========================
# Epochs of random masking, and epochs from one refresh of the maps to the
# next (Table 4).
begin = 40
interval = 40

# ====================== Unmodified in most cases =======================
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(data_root=data_root, split_folder=split_folder))
optim_wrapper = dict(optimizer=dict(lr=base_lr))
train_cfg = dict(max_epochs=max_epochs)
model = dict(
    backbone=dict(img_size=_base_.image_size),
    head=dict(cls_weight=cls_weight, num_classes=_base_.num_classes),
    mask_ratio=mask_ratio,
    throw_ratio=throw_ratio)
default_hooks = dict(
    attention_mask=dict(
        begin=begin,
        interval=interval,
        pipeline=_base_.whole_image_pipeline,
        num_workers=_base_.num_workers),
    attention_panel=dict(pipeline=_base_.whole_image_pipeline))
