"""BUSI for fine-tuning: 780 images of 3 classes, copies on one side."""

_base_ = './labelled_images_cls.py'

# ========================= Frequently modified =========================
data_root = 'data/busi/'
# 'splits/paper', of 547 and 233 images, has copies on both sides.
split_folder = 'splits/grouped'

# ====================== Unmodified in most cases =======================
num_classes = 3
source = dict(data_root=data_root, split_folder=split_folder)
train_dataloader = dict(dataset=source)
val_dataloader = dict(dataset=source)
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root)
test_evaluator = val_evaluator
