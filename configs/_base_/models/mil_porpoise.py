"""PORPOISE (Cancer Cell 2022): ABMIL and SNN, gated outer product."""

# ========================= Frequently modified =========================
num_genes = 60433  # of the table; an error names the number

# ========================== Possibly modified ==========================
embed_dims = 256
# Dimensions of each vector in the outer product.
reduced_dims = 32
drop_rate = 0.25
# Share of training patients from whom one of the two is taken.
modality_dropout = 0.0

# ====================== Unmodified in most cases =======================
model = dict(
    type='mmmedmask.SlideOmicClassifier',
    data_preprocessor=dict(type='mmmedmask.SlideOmicDataPreprocessor'),
    aggregator=dict(
        type='mmmedmask.ABMIL',
        in_dims=1024,  # those of the features
        embed_dims=embed_dims,
        attention_dims=256,
        drop_rate=drop_rate),
    gene_encoder=dict(
        type='mmmedmask.SNN',
        num_genes=num_genes,
        embed_dims=embed_dims,
        drop_rate=drop_rate),
    fusion=dict(
        type='mmmedmask.KroneckerFusion',
        reduced_dims=reduced_dims,
        gate='linear',
        drop_rate=drop_rate,
        modality_dropout=modality_dropout),
    head=dict(
        type='mmmedmask.SlideOmicHead',
        num_classes=2,
        drop_rate=0.0))
