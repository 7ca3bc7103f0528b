"""Table 2, row 4: triplets of slides alone, nothing masked."""

_base_ = '../gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py'

model = dict(
    data_preprocessor=dict(init_cfg=None),
    aggregator=dict(mask_token='zeros'),
    gene_encoder=None,
    mpm_head=None)
train_dataloader = dict(dataset=dict(modalities=['slides']))
default_hooks = dict(
    cross_fitted_genes=None,
    gene_stats=None,
    load_check=None)
