"""BUSI for fine-tuning: 547 training and 233 validation images."""

_base_ = './labelled_images_cls.py'

# ========================= Frequently modified =========================
data_root = 'data/busi/'
# 'splits/grouped' keeps copies of an image on one side.
split_folder = 'splits/paper'

# ====================== Unmodified in most cases =======================
num_classes = 3
source = dict(data_root=data_root, split_folder=split_folder)
train_dataloader = dict(dataset=source)
val_dataloader = dict(dataset=source)
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root)
test_evaluator = val_evaluator
