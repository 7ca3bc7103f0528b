"""Messidor-2: 1,222 training and 522 validation images of 5 grades.

tools/dataset_converters/convert.py messidor2 writes the data set.
"""

_base_ = './labelled_images_pretrain.py'

# ========================= Frequently modified =========================
data_root = 'data/messidor2/'
# 'splits/patient' keeps both eyes of a patient on one side.
split_folder = 'splits/paper'

# ====================== Unmodified in most cases =======================
num_classes = 5
source = dict(data_root=data_root, split_folder=split_folder)
train_dataloader = dict(dataset=source)
