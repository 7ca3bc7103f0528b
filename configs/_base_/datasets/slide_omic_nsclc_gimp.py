"""TCGA-NSCLC for GiMP's pre-training: runs of 6,000 patches, half masked.

Sections 2.3 and 3.1 of the paper. The training split alone; the files are
those of slide_omic_nsclc.py.
"""

# ========================= Frequently modified =========================
data_root = 'data/tcga_nsclc/'
ann_file = 'cohort.csv'  # case_id, slide_id, label, split
feature_root = 'features/'  # a file per slide, of CLAM, TRIDENT or STAMP
# A matrix, or the folder of a download from the GDC with its sample sheet.
expression = dict(path='expression.tsv', unit='fpkm')
batch_size = 16  # per GPU; the paper does not say
num_workers = 4  # per GPU
# Patches of a run, L; slides with fewer are repeated.
length = 6000
# Share of them that is masked.
mask_ratio = 0.5

# ========================== Possibly modified ==========================
classes = ('LUAD', 'LUSC')
# A csv with a column per split; None takes the column split of ann_file.
split_file = None
# ['slides'] for pre-training without genes.
modalities = ['slides', 'genes']
# Size of a feature; None takes what the files have.
feature_dims = None
# Text file with a gene per line; None takes those of the table.
gene_list = None
# Folder for copies of the features in fp16; None makes none.
cache_dir = None
# Neighbours in the 'file', or along a 'hilbert' curve over the slide.
order = 'file'

# ====================== Unmodified in most cases =======================
train_pipeline = [
    dict(type='mmmedmask.LoadSlideFeatures'),
    dict(
        type='mmmedmask.ContiguousSubsequence', length=length, order=order),
    dict(type='mmmedmask.GenerateSequenceMask', ratio=mask_ratio),
    dict(type='mmmedmask.LoadExpression'),
    dict(type='mmmedmask.PackSlideOmicInputs'),
]

# Triplets need two patients of one class and one of another in each batch.
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='mmmedmask.ClassBalancedBatchSampler'),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='mmmedmask.SlideOmicDataset',
        data_root=data_root,
        ann_file=ann_file,
        split='train',
        split_file=split_file,
        modalities=modalities,
        feature_root=feature_root,
        dims=feature_dims,
        cache_dir=cache_dir,
        expression=expression,
        gene_list=gene_list,
        metainfo=dict(classes=classes),
        pipeline=train_pipeline))
