"""TCGA-NSCLC, whole bags: slide features and expression of 946 patients.

470 LUAD and 476 LUSC, 567 / 189 / 190 for training, validation and test in
the paper, which does not say who is where: cohort.csv has a column split, or
split_file names a csv. docs/datasets.md describes the files.
"""

_base_ = './slide_omic_base.py'

# ========================= Frequently modified =========================
data_root = 'data/tcga_nsclc/'
ann_file = 'cohort.csv'  # case_id, slide_id, label, split
feature_root = 'features/'  # a file per slide, of CLAM, TRIDENT or STAMP
# A matrix, or the folder of a download from the GDC with its sample sheet.
expression = dict(path='expression.tsv', unit='fpkm')
# Bags in a batch, and patches in all of them with padding.
batch_size = 8
max_tokens = 160000
num_workers = 4

# ========================== Possibly modified ==========================
classes = ('LUAD', 'LUSC')
# A csv with a column per split; None takes the column split of ann_file.
split_file = None
# ['slides'] or ['genes'] of the patients.
modalities = ['slides', 'genes']
# Size of a feature; None takes what the files have.
feature_dims = None
# Text file with a gene per line; None takes those of the table.
gene_list = None
# Folder for copies of the features in fp16; None makes none.
cache_dir = None
# Largest share of padding in a batch.
max_waste = 0.2
# Batches that each worker keeps in shared memory (/dev/shm): one of
# max_tokens patches with 1024 float32 is 655 MB, twice while it is pinned.
prefetch_factor = 1 if num_workers > 0 else None

# ====================== Unmodified in most cases =======================
dataset = dict(
    data_root=data_root,
    ann_file=ann_file,
    split_file=split_file,
    modalities=modalities,
    feature_root=feature_root,
    dims=feature_dims,
    cache_dir=cache_dir,
    expression=expression,
    gene_list=gene_list,
    metainfo=dict(classes=classes))
workers = dict(
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    prefetch_factor=prefetch_factor,
    pin_memory=True)

train_dataloader = dict(
    **workers,
    batch_size=batch_size,
    batch_sampler=dict(
        type='mmmedmask.LengthBucketBatchSampler',
        max_tokens=max_tokens,
        max_waste=max_waste),
    dataset=dataset)
val_dataloader = dict(**workers, batch_size=1, dataset=dataset)
test_dataloader = dict(**workers, batch_size=1, dataset=dataset)
