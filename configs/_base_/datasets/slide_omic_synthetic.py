"""A SYNTHETIC pairing of real tiles and real genes, at the real lengths.

tools/dataset_converters/convert.py pair_tiles_and_genes makes it: bags of
about 6,300 patches of LC25000's adenocarcinoma and squamous tiles, and counts
of 56,537 genes of two kinds of tumour of other organs. No patient has both;
scores on it show that a model runs, and nothing about patients.
"""

_base_ = './slide_omic_base.py'

# ========================= Frequently modified =========================
data_root = 'data/synthetic_pairs/'
# The counts that the bags were paired with, a file per class.
expression_files = ['expression/lung_aca.npz', 'expression/lung_scc.npz']
batch_size = 4
max_tokens = 40000

# ========================== Possibly modified ==========================
modalities = ['slides', 'genes']

# ====================== Unmodified in most cases =======================
dataset = dict(
    data_root=data_root,
    modalities=modalities,
    feature_root='features/',
    expression=dict(path=expression_files, convert='cpm'))

train_dataloader = dict(
    batch_size=batch_size,
    batch_sampler=dict(
        type='mmmedmask.LengthBucketBatchSampler', max_tokens=max_tokens),
    dataset=dataset)
val_dataloader = dict(batch_size=1, dataset=dataset)
test_dataloader = dict(batch_size=1, dataset=dataset)
