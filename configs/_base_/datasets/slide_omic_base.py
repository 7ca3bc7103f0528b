"""A cohort of slides and genes: whole bags for training, validation and test.

A cohort inherits this, and says where its files are and which classes it has.
"""

# ========================= Frequently modified =========================
batch_size = 8
num_workers = 0
# Of the configs that draw some patches of each slide, others in each epoch.
max_patches = 2000

# ====================== Unmodified in most cases =======================
load_features = dict(type='mmmedmask.LoadSlideFeatures')
load_genes = dict(type='mmmedmask.LoadExpression')
pack_inputs = dict(type='mmmedmask.PackSlideOmicInputs')
draw_patches = dict(type='mmmedmask.RandomSubsample', max_patches=max_patches)
subsample_pipeline = [load_features, draw_patches, load_genes, pack_inputs]
loader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    collate_fn=dict(type='pseudo_collate'))
dataset = dict(
    type='mmmedmask.SlideOmicDataset',
    ann_file='cohort.csv',
    pipeline=[load_features, load_genes, pack_inputs])

train_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(split='train', **dataset))
val_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='val', test_mode=True, **dataset))
test_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='test', test_mode=True, **dataset))

val_evaluator = dict(type='mmmedmask.SlideClassification')
test_evaluator = val_evaluator
