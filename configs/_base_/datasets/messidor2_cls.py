"""Messidor-2 for fine-tuning: 1,222 training and 522 validation images."""

_base_ = './labelled_images_cls.py'

# ========================= Frequently modified =========================
data_root = 'data/messidor2/'
# 'splits/patient' keeps both eyes of a patient on one side.
split_folder = 'splits/paper'

# ====================== Unmodified in most cases =======================
num_classes = 5
source = dict(data_root=data_root, split_folder=split_folder)
train_dataloader = dict(dataset=source)
val_dataloader = dict(dataset=source)
test_dataloader = val_dataloader
val_evaluator = dict(graded=True, data_root=data_root)
test_evaluator = val_evaluator
