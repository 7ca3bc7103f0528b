"""DSMIL (CVPR 2021): both streams have a loss, and half of the answer."""

# ========================== Possibly modified ==========================
# None scores the features as they are, as the paper does.
embed_dims = 512
query_dims = 128
drop_rate = 0.25

# ====================== Unmodified in most cases =======================
model = dict(
    type='mmmedmask.SlideOmicClassifier',
    data_preprocessor=dict(type='mmmedmask.SlideOmicDataPreprocessor'),
    aggregator=dict(
        type='mmmedmask.DSMIL',
        in_dims=1024,  # those of the features
        num_classes=2,
        embed_dims=embed_dims,
        query_dims=query_dims,
        instance_weight=0.5,
        drop_rate=drop_rate),
    head=dict(
        type='mmmedmask.ClasswiseSlideOmicHead',
        num_classes=2,
        loss_weight=0.5))
