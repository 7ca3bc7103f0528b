"""Genes of breast cancers, ductal (IDC) against lobular (ILC), by folds.

tools/dataset_converters/convert.py porpoise --cohorts brca --classes IDC ILC
writes data_root; tools/cross_validate.py --draw 5 draws its folds.
"""

# ========================= Frequently modified =========================
data_root = 'data/tcga-brca/'
split_file = 'splits/splits_0.csv'  # tools/cross_validate.py changes it
batch_size = 32

# ========================== Possibly modified ==========================
classes = ('IDC', 'ILC')

# ====================== Unmodified in most cases =======================
dataset = dict(
    type='mmmedmask.SlideOmicDataset',
    data_root=data_root,
    ann_file='cohort.csv',
    split_file=split_file,
    modalities=['genes'],
    expression=dict(path='expression.npz'),
    metainfo=dict(classes=classes),
    pipeline=[
        dict(type='mmmedmask.LoadExpression'),
        dict(type='mmmedmask.PackSlideOmicInputs'),
    ])

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(split='train', **dataset))
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(split='val', test_mode=True, **dataset))
test_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(split='test', test_mode=True, **dataset))

val_evaluator = dict(type='mmmedmask.SlideClassification')
test_evaluator = val_evaluator
