"""ViT-B/16 on BUSI from MSMAE, split as in the paper, which leaks."""

_base_ = './vit-base-p16_msmae_1xb256-100e_busi.py'

# ========================= Frequently modified =========================
# Of the pre-training with the same split.
checkpoint = ('work_dirs/msmae_vit-base-p16_1xb64-coslr-300e_busi-paper/'
              'epoch_300.pth')
split_folder = 'splits/paper'

# ====================== Unmodified in most cases =======================
source = dict(split_folder=split_folder)
train_dataloader = dict(dataset=source)
val_dataloader = dict(dataset=source)
test_dataloader = dict(dataset=source)
model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
