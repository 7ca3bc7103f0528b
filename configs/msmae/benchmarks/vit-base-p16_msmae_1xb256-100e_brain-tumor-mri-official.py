"""ViT-B/16 on Brain Tumor MRI from MSMAE, with the official, leaking split."""

_base_ = './vit-base-p16_msmae_1xb256-100e_brain-tumor-mri.py'

# ========================= Frequently modified =========================
# Of the pre-training with the same split.
checkpoint = (
    'work_dirs/msmae_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri-official/'
    'epoch_300.pth')
split_folder = 'splits/official'

# ====================== Unmodified in most cases =======================
source = dict(split_folder=split_folder)
train_dataloader = dict(dataset=source)
val_dataloader = dict(dataset=source)
test_dataloader = dict(dataset=source)
model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
