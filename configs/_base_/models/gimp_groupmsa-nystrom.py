"""GiMP's pre-training: frozen GroupMSA, Nystrom aggregator, MPM, triplets."""

# ========================= Frequently modified =========================
# Size of a slide feature: 1024 of CLAM's ResNet-50.
in_dims = 1024
# Genes: the 60,483 of the GDC's FPKM files without the 50 copies on
# chromosome Y. GroupMSA fills up to the paper's 60,480.
num_genes = 60433
# What the first stage leaves: gene encoder, scale and list of genes.
gene_checkpoint = None

# ========================== Possibly modified ==========================
# The paper says nothing of these; docs/methods/gimp.md says why these.
embed_dims = 512
num_landmarks = 256
num_heads = 8
# See gimp_groupmsa.py.
projection = 'separate'
gene_drop_rate = 0.5
# delta in Eq. 4.
margin = 0.8

# ====================== Unmodified in most cases =======================
model = dict(
    type='mmmedmask.GiMP',
    data_preprocessor=dict(
        type='mmmedmask.SlideOmicDataPreprocessor',
        init_cfg=dict(
            type='Pretrained',
            checkpoint=gene_checkpoint,
            prefix='data_preprocessor.')),
    aggregator=dict(
        type='mmmedmask.NystromAggregator',
        in_dims=in_dims,
        embed_dims=embed_dims,
        num_layers=2,
        num_heads=num_heads,
        num_landmarks=num_landmarks),
    gene_encoder=dict(
        type='mmmedmask.GroupMSA',
        num_genes=num_genes,
        embed_dims=embed_dims,
        projection=projection,
        # Of the encoders that are cross-fitted; this one is frozen.
        gene_drop_rate=gene_drop_rate,
        init_cfg=dict(
            type='Pretrained',
            checkpoint=gene_checkpoint,
            prefix='gene_encoder.')),
    mpm_head=dict(type='mmmedmask.MPMHead'),
    contrast_head=dict(type='mmmedmask.TripletHead', margin=margin))
