"""GiMP's fine-tuning: GroupMSA and the aggregator, side by side, an MLP.

The parts are those of gimp_groupmsa-nystrom.py.
"""

# ========================= Frequently modified =========================
# Size of a slide feature: 1024 of CLAM's ResNet-50.
in_dims = 1024
# See gimp_groupmsa-nystrom.py.
num_genes = 60433
num_classes = 2
# What pre-training leaves.
checkpoint = None

# ========================== Possibly modified ==========================
embed_dims = 512
num_landmarks = 256
num_heads = 8
# See gimp_groupmsa.py.
projection = 'separate'
gene_drop_rate = 0.5
# The paper freezes it "in the following iterations", and leaves open whether
# these are of fine-tuning, too.
freeze_gene_encoder = False
# Recompute layers in the backward pass: bags of 150,000 patches fit.
with_cp = True

# ====================== Unmodified in most cases =======================
model = dict(
    type='mmmedmask.SlideOmicClassifier',
    data_preprocessor=dict(
        type='mmmedmask.SlideOmicDataPreprocessor',
        init_cfg=dict(
            type='Pretrained',
            checkpoint=checkpoint,
            prefix='data_preprocessor.')),
    aggregator=dict(
        type='mmmedmask.NystromAggregator',
        in_dims=in_dims,
        embed_dims=embed_dims,
        num_layers=2,
        num_heads=num_heads,
        num_landmarks=num_landmarks,
        # Nothing is masked here.
        mask_token='zeros',
        with_cp=with_cp,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='aggregator.')),
    gene_encoder=dict(
        type='mmmedmask.GroupMSA',
        num_genes=num_genes,
        embed_dims=embed_dims,
        projection=projection,
        gene_drop_rate=gene_drop_rate,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint,
            prefix='gene_encoder.')),
    fusion=dict(type='mmmedmask.ConcatFusion'),
    head=dict(
        type='mmmedmask.SlideOmicHead',
        num_classes=num_classes,
        hidden_dims=embed_dims,
        drop_rate=0.25,
        # A start that does not depend on the width.
        init_cfg=dict(
            type='Xavier', layer='Linear', distribution='uniform')),
    freeze_gene_encoder=freeze_gene_encoder)
