"""HAM10000: 10,015 images of 7 classes, each lesion on one side.

tools/dataset_converters/convert.py ham10000 writes the data set.
"""

_base_ = './labelled_images_pretrain.py'

# ========================= Frequently modified =========================
data_root = 'data/ham10000/'
# 'splits/paper' has lesions on both sides.
split_folder = 'splits/lesion'

# ====================== Unmodified in most cases =======================
num_classes = 7
source = dict(data_root=data_root, split_folder=split_folder)
train_dataloader = dict(dataset=source)
