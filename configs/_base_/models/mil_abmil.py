"""ABMIL (ICML 2018), gated, and a linear class head."""

# ========================== Possibly modified ==========================
embed_dims = 512
attention_dims = 128
drop_rate = 0.25

# ====================== Unmodified in most cases =======================
model = dict(
    type='mmmedmask.SlideOmicClassifier',
    data_preprocessor=dict(type='mmmedmask.SlideOmicDataPreprocessor'),
    aggregator=dict(
        type='mmmedmask.ABMIL',
        in_dims=1024,  # those of the features
        embed_dims=embed_dims,
        attention_dims=attention_dims,
        drop_rate=drop_rate),
    head=dict(
        type='mmmedmask.SlideOmicHead',
        num_classes=2,
        drop_rate=drop_rate))
