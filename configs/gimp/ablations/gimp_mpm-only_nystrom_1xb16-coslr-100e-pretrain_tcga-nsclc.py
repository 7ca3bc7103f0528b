"""Table 2, row 3: masked patches of slides alone, no triplets."""

_base_ = '../gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py'

model = dict(
    data_preprocessor=dict(init_cfg=None),
    gene_encoder=None,
    contrast_head=None)
train_dataloader = dict(dataset=dict(modalities=['slides']))
default_hooks = dict(
    cross_fitted_genes=None,
    gene_stats=None,
    load_check=None,
    triplet_monitor=None)
