"""Brain Tumor MRI for fine-tuning: 2,558 training and 975 test images."""

_base_ = './labelled_images_cls.py'

# ========================= Frequently modified =========================
data_root = 'data/brain_tumor_mri/'
# Trains on no copies of test images; of 'splits/official', the paper's, three
# quarters of the test images are copies of training images: docs/datasets.md.
split_folder = 'splits/clean-train'

# ====================== Unmodified in most cases =======================
num_classes = 4
source = dict(data_root=data_root, split_folder=split_folder)
train_dataloader = dict(dataset=source)
val_dataloader = dict(dataset=source)
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root)
test_evaluator = val_evaluator
