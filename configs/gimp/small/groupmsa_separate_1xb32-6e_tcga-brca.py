"""GroupMSA on genes of breast cancers, IDC against ILC; see docs/results.md.

1,558 genes in 96 fragments of 17 and 8 groups, a projection for each
fragment: the shared one of the paper is too narrow a way for so few genes.

Learning rate 5e-4 for batches of 1 x 32, 6 epochs; data/tcga-brca.
"""

_base_ = [
    '../../_base_/models/gimp_groupmsa.py',
    '../../_base_/datasets/brca_genes.py',
    '../../_base_/schedules/genes_adamw_6e.py',
    '../../_base_/genes_runtime.py',
]

# ========================= Frequently modified =========================
num_genes = 1558
embed_dims = 128
projection = 'separate'
gene_drop_rate = 0.0

# ====================== Unmodified in most cases =======================
model = dict(
    gene_encoder=dict(
        num_genes=num_genes,
        embed_dims=embed_dims,
        num_fragments=96,
        num_groups=8,
        num_heads=4,
        projection=projection,
        gene_drop_rate=gene_drop_rate))
