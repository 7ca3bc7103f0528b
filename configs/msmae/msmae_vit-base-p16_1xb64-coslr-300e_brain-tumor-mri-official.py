"""MSMAE on Brain Tumor MRI split as in the paper, which leaks."""

_base_ = './msmae_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri.py'

# ========================= Frequently modified =========================
split_folder = 'splits/official'

# ====================== Unmodified in most cases =======================
train_dataloader = dict(dataset=dict(split_folder=split_folder))
