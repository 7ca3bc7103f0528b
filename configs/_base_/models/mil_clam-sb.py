"""CLAM with a single branch (Nature Biomedical Engineering 2021)."""

# ========================== Possibly modified ==========================
embed_dims = 512
drop_rate = 0.25
# Patches of each kind that a bag's classifiers learn from.
num_instances = 8
# Share of the loss of single patches; the bag's has the rest.
instance_weight = 0.3
# 'ce' instead of the paper's smooth support vector machine.
instance_loss = 'svm'

# ====================== Unmodified in most cases =======================
model = dict(
    type='mmmedmask.SlideOmicClassifier',
    data_preprocessor=dict(type='mmmedmask.SlideOmicDataPreprocessor'),
    aggregator=dict(
        type='mmmedmask.CLAM_SB',
        in_dims=1024,  # those of the features
        num_classes=2,
        embed_dims=embed_dims,
        num_instances=num_instances,
        instance_loss=instance_loss,
        instance_weight=instance_weight,
        drop_rate=drop_rate),
    head=dict(
        type='mmmedmask.SlideOmicHead',
        num_classes=2,
        drop_rate=0.0,
        loss_weight=1 - instance_weight))
