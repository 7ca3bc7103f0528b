"""MSMAE on HAM10000 at the small size, with coverage of the lesions."""

_base_ = './msmae_vit-mini-p8_1xb64-30e_brain-tumor-mri.py'

# ========================= Frequently modified =========================
data_root = 'data/ham10000/'
split_folder = 'splits/lesion'

# ====================== Unmodified in most cases =======================
train_dataloader = dict(
    dataset=dict(data_root=data_root, split_folder=split_folder))
model = dict(head=dict(num_classes=7))
default_hooks = dict(
    lesion_coverage=dict(
        type='mmmedmask.LesionCoverageHook', num_images=400, at_start=True))
