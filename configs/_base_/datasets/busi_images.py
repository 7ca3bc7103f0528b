"""BUSI: 547 training and 233 validation images of 3 classes.

tools/dataset_converters/convert.py busi writes the data set.
"""

_base_ = './labelled_images_pretrain.py'

# ========================= Frequently modified =========================
data_root = 'data/busi/'
# 'splits/grouped' keeps copies of an image on one side.
split_folder = 'splits/paper'

# ====================== Unmodified in most cases =======================
num_classes = 3
source = dict(data_root=data_root, split_folder=split_folder)
train_dataloader = dict(dataset=source)
