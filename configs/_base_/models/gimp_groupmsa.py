"""GiMP's first stage: GroupMSA with a linear classifier, genes alone.

The gene encoder is that of gimp_groupmsa-nystrom.py, which takes it over.
"""

# ========================= Frequently modified =========================
# See gimp_groupmsa-nystrom.py.
num_genes = 60433
num_classes = 2

# ========================== Possibly modified ==========================
# The paper says nothing of these; docs/methods/gimp.md says why these.
embed_dims = 512
num_fragments = 960
num_groups = 32
num_heads = 8
# A cohort of hundreds needs a projection for each fragment and gene dropout;
# 'shared' and 0 as in the paper.
projection = 'separate'
gene_drop_rate = 0.5

# ====================== Unmodified in most cases =======================
model = dict(
    type='mmmedmask.SlideOmicClassifier',
    data_preprocessor=dict(type='mmmedmask.SlideOmicDataPreprocessor'),
    gene_encoder=dict(
        type='mmmedmask.GroupMSA',
        num_genes=num_genes,
        embed_dims=embed_dims,
        num_fragments=num_fragments,
        num_groups=num_groups,
        num_heads=num_heads,
        projection=projection,
        gene_drop_rate=gene_drop_rate),
    head=dict(type='mmmedmask.SlideOmicHead', num_classes=num_classes))
