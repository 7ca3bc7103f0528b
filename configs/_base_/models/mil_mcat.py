"""MCAT (ICCV 2021): sets of genes look at patches."""

# ========================= Frequently modified =========================
num_genes = 60433  # of the table; an error names the number
# A .gmt or .csv file, with gene_list of the data set; a number cuts the
# genes in their order. The paper has six sets, by function.
gene_sets = 6

# ========================== Possibly modified ==========================
embed_dims = 256
drop_rate = 0.25

# ====================== Unmodified in most cases =======================
model = dict(
    type='mmmedmask.SlideOmicClassifier',
    data_preprocessor=dict(type='mmmedmask.SlideOmicDataPreprocessor'),
    aggregator=dict(
        type='mmmedmask.MCAT',
        in_dims=1024,  # those of the features
        num_genes=num_genes,
        gene_sets=gene_sets,
        gene_list=None,  # the data set's, for a file
        embed_dims=embed_dims,
        drop_rate=drop_rate),
    head=dict(
        type='mmmedmask.SlideOmicHead',
        num_classes=2,
        drop_rate=drop_rate))
