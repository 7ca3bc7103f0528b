"""A self-normalising network on genes alone, in the place of GroupMSA."""

# ========================= Frequently modified =========================
# See gimp_groupmsa-nystrom.py.
num_genes = 60433
num_classes = 2

# ========================== Possibly modified ==========================
embed_dims = 256
hidden_dims = (256, )
drop_rate = 0.25

# ====================== Unmodified in most cases =======================
model = dict(
    type='mmmedmask.SlideOmicClassifier',
    data_preprocessor=dict(type='mmmedmask.SlideOmicDataPreprocessor'),
    gene_encoder=dict(
        type='mmmedmask.SNN',
        num_genes=num_genes,
        embed_dims=embed_dims,
        hidden_dims=hidden_dims,
        drop_rate=drop_rate),
    head=dict(type='mmmedmask.SlideOmicHead', num_classes=num_classes))
