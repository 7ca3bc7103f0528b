"""Figure 2b: masked patches and triplets of slides alone."""

_base_ = '../gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py'

model = dict(data_preprocessor=dict(init_cfg=None), gene_encoder=None)
train_dataloader = dict(dataset=dict(modalities=['slides']))
default_hooks = dict(
    cross_fitted_genes=None,
    gene_stats=None,
    load_check=None)
