"""HAM10000 for fine-tuning: 10,015 images, each lesion on one side."""

_base_ = './labelled_images_cls.py'

# ========================= Frequently modified =========================
data_root = 'data/ham10000/'
# 'splits/paper' has lesions on both sides.
split_folder = 'splits/lesion'

# ====================== Unmodified in most cases =======================
num_classes = 7
source = dict(data_root=data_root, split_folder=split_folder)
train_dataloader = dict(dataset=source)
val_dataloader = dict(dataset=source)
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root)
test_evaluator = val_evaluator
