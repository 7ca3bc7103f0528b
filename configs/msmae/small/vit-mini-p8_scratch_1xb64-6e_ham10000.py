"""The supervised row on HAM10000, with coverage by class activation."""

_base_ = './vit-mini-p8_scratch_1xb64-6e_brain-tumor-mri.py'

# ========================= Frequently modified =========================
data_root = 'data/ham10000/'
split_folder = 'splits/lesion'

# ====================== Unmodified in most cases =======================
source = dict(data_root=data_root, split_folder=split_folder)
train_dataloader = dict(dataset=source)
val_dataloader = dict(dataset=source)
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root)
test_evaluator = val_evaluator
model = dict(head=dict(num_classes=7))
default_hooks = dict(
    lesion_coverage=dict(
        type='mmmedmask.LesionCoverageHook',
        pipeline=_base_.whole_image_pipeline,
        num_images=400,
        maps='class_activation',
        at_start=True))
