"""A linear classifier of genes alone, in two layers without activation."""

# ========================= Frequently modified =========================
# See gimp_groupmsa-nystrom.py.
num_genes = 60433
num_classes = 2

# ========================== Possibly modified ==========================
embed_dims = 256
drop_rate = 0.0

# ====================== Unmodified in most cases =======================
model = dict(
    type='mmmedmask.SlideOmicClassifier',
    data_preprocessor=dict(type='mmmedmask.SlideOmicDataPreprocessor'),
    gene_encoder=dict(
        type='mmmedmask.LinearGeneEncoder',
        num_genes=num_genes,
        embed_dims=embed_dims,
        drop_rate=drop_rate),
    head=dict(type='mmmedmask.SlideOmicHead', num_classes=num_classes))
