"""HAM10000 for fine-tuning: 7,014 training and 3,001 validation images."""

_base_ = './labelled_images_cls.py'

# ========================= Frequently modified =========================
data_root = 'data/ham10000/'
# 'splits/lesion' keeps all images of a lesion on one side.
split_folder = 'splits/paper'

# ====================== Unmodified in most cases =======================
num_classes = 7
source = dict(data_root=data_root, split_folder=split_folder)
train_dataloader = dict(dataset=source)
val_dataloader = dict(dataset=source)
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root)
test_evaluator = val_evaluator
