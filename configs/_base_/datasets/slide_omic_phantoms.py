"""Drawn cohorts, see mmmedmask.phantoms.slide_omic_cohort.

    write_slide_omic_cohort('data/cohort_phantoms', num_cases=160)

Whole bags for training, validation and test, with both modalities.
"""

# ========================= Frequently modified =========================
data_root = 'data/cohort_phantoms/'
batch_size = 8

# ========================== Possibly modified ==========================
modalities = ('slides', 'genes')

# ====================== Unmodified in most cases =======================
whole_bag_pipeline = [
    dict(type='mmmedmask.LoadSlideFeatures'),
    dict(type='mmmedmask.LoadExpression'),
    dict(type='mmmedmask.PackSlideOmicInputs'),
]
dataset = dict(
    type='mmmedmask.SlideOmicDataset',
    ann_file='cohort.csv',
    data_root=data_root,
    feature_root='features',
    expression=dict(path='expression.tsv', unit='fpkm'),
    modalities=modalities,
    # A drawn cohort may lack some on purpose.
    missing_slides='keep',
    missing_genes='keep',
    pipeline=whole_bag_pipeline)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(dataset, split='train'))
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(dataset, split='val', test_mode=True))
test_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(dataset, split='test', test_mode=True))

val_evaluator = dict(type='mmmedmask.SlideClassification')
test_evaluator = val_evaluator
