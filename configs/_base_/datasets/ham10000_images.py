"""HAM10000: 7,014 training and 3,001 validation images of 7 classes.

tools/dataset_converters/convert.py ham10000 writes the data set.
"""

_base_ = './labelled_images_pretrain.py'

# ========================= Frequently modified =========================
data_root = 'data/ham10000/'
# 'splits/lesion' keeps all images of a lesion on one side.
split_folder = 'splits/paper'

# ====================== Unmodified in most cases =======================
num_classes = 7
source = dict(data_root=data_root, split_folder=split_folder)
train_dataloader = dict(dataset=source)
