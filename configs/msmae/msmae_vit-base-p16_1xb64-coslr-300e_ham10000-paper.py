"""MSMAE on HAM10000 split as in the paper, which leaks."""

_base_ = './msmae_vit-base-p16_1xb64-coslr-300e_ham10000.py'

# ========================= Frequently modified =========================
split_folder = 'splits/paper'

# ====================== Unmodified in most cases =======================
train_dataloader = dict(dataset=dict(split_folder=split_folder))
