"""TransMIL (NeurIPS 2021), its positions on the slide's own grid."""

# ========================== Possibly modified ==========================
# 'square' folds features without coordinates to a square.
without_coords = 'raise'
embed_dims = 512
num_landmarks = 256
drop_rate = 0.1

# ====================== Unmodified in most cases =======================
model = dict(
    type='mmmedmask.SlideOmicClassifier',
    data_preprocessor=dict(type='mmmedmask.SlideOmicDataPreprocessor'),
    aggregator=dict(
        type='mmmedmask.TransMIL',
        in_dims=1024,  # those of the features
        embed_dims=embed_dims,
        num_landmarks=num_landmarks,
        without_coords=without_coords,
        drop_rate=drop_rate),
    head=dict(
        type='mmmedmask.SlideOmicHead',
        num_classes=2,
        drop_rate=0.0))
