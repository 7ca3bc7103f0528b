"""musk1: 92 molecules as bags of 2 to 40 shapes, a fold at a time.

tools/dataset_converters/convert.py musk writes the data set, and
tools/cross_validate.py puts each fold's split_file in. There is no
validation split: training runs to its last epoch, as in published results.
"""

# ========================= Frequently modified =========================
data_root = 'data/musk1/'
split_file = 'folds/splits_0.csv'
batch_size = 8
num_workers = 0

# ====================== Unmodified in most cases =======================
classes = ('non-musk', 'musk')
dataset = dict(
    type='mmmedmask.SlideOmicDataset',
    data_root=data_root,
    ann_file='cohort.csv',
    split_file=split_file,
    modalities=['slides'],
    feature_root='features',
    dims=166,
    metainfo=dict(classes=classes),
    pipeline=[
        dict(type='mmmedmask.LoadSlideFeatures', slice='all', max_open=128),
        dict(type='mmmedmask.PackSlideOmicInputs'),
    ])
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(split='train', **dataset))
test_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(split='test', test_mode=True, **dataset))
# Intervals are those of all folds together; a fold has nine bags.
test_evaluator = dict(type='mmmedmask.SlideClassification', num_bootstrap=0)
