"""A SYNTHETIC pairing of real tiles and real genes, at the real lengths.

tools/dataset_converters/convert.py pair_tiles_and_genes makes it: bags of
about 6,300 patches of LC25000's adenocarcinoma and squamous tiles, and counts
of 56,537 genes of two kinds of tumour of other organs. No patient has both;
scores on it show that a model runs, and nothing about patients.
"""

# ========================= Frequently modified =========================
data_root = 'data/synthetic_pairs/'
# The counts that the bags were paired with, a file per class.
expression_files = ['expression/lung_aca.npz', 'expression/lung_scc.npz']
batch_size = 4
max_tokens = 40000

# ========================== Possibly modified ==========================
modalities = ['slides', 'genes']

# ====================== Unmodified in most cases =======================
whole_bag_pipeline = [
    dict(type='mmmedmask.LoadSlideFeatures'),
    dict(type='mmmedmask.LoadExpression'),
    dict(type='mmmedmask.PackSlideOmicInputs'),
]
dataset = dict(
    type='mmmedmask.SlideOmicDataset',
    data_root=data_root,
    ann_file='cohort.csv',
    modalities=modalities,
    feature_root='features/',
    expression=dict(path=expression_files, convert='cpm'),
    pipeline=whole_bag_pipeline)

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(
        type='mmmedmask.LengthBucketBatchSampler', max_tokens=max_tokens),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(split='train', **dataset))
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(split='val', test_mode=True, **dataset))
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(split='test', test_mode=True, **dataset))

val_evaluator = dict(type='mmmedmask.SlideClassification')
test_evaluator = val_evaluator
