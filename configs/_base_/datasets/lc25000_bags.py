"""LC25000, adenocarcinoma against squamous: bags of tiles, by their source.

tools/wsi/tiles_to_bags.py writes the bags (docs/datasets.md): all tiles of a
source are in one bag, so that folds by bag are folds by source.
"""

# ========================= Frequently modified =========================
data_root = 'data/lc25000-resnet18-untrained/'
batch_size = 8
num_workers = 0

# ====================== Unmodified in most cases =======================
classes = ('lung_aca', 'lung_scc')
dataset = dict(
    type='mmmedmask.SlideOmicDataset',
    data_root=data_root,
    ann_file='cohort.csv',
    modalities=['slides'],
    feature_root='features',
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
# Intervals are those of all folds together; a fold has eleven bags.
test_evaluator = dict(type='mmmedmask.SlideClassification', num_bootstrap=0)
