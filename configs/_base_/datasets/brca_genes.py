"""Genes of breast cancers, ductal (IDC) against lobular (ILC), by folds.

tools/dataset_converters/convert.py porpoise --cohorts brca --classes IDC ILC
writes data_root; tools/cross_validate.py --draw 5 draws its folds.
"""

_base_ = './slide_omic_base.py'

# ========================= Frequently modified =========================
data_root = 'data/tcga-brca/'
split_file = 'splits/splits_0.csv'  # tools/cross_validate.py changes it
batch_size = 32

# ========================== Possibly modified ==========================
classes = ('IDC', 'ILC')

# ====================== Unmodified in most cases =======================
dataset = dict(
    data_root=data_root,
    split_file=split_file,
    modalities=['genes'],
    expression=dict(path='expression.npz'),
    metainfo=dict(classes=classes),
    pipeline=[_base_.load_genes, _base_.pack_inputs])
train_dataloader = dict(batch_size=batch_size, dataset=dataset)
val_dataloader = dict(batch_size=batch_size, dataset=dataset)
test_dataloader = dict(batch_size=batch_size, dataset=dataset)
