"""Brain Tumor MRI: 5,712 training and 1,311 test images of 4 classes.

tools/dataset_converters/convert.py brain_tumor_mri writes the data set.
"""

_base_ = './labelled_images_pretrain.py'

# ========================= Frequently modified =========================
data_root = 'data/brain_tumor_mri/'
# 'splits/clean' has no copies of training images in the test set, and
# 'splits/clean-train' trains on no copies of test images: docs/datasets.md.
split_folder = 'splits/official'

# ====================== Unmodified in most cases =======================
num_classes = 4
source = dict(data_root=data_root, split_folder=split_folder)
train_dataloader = dict(dataset=source)
