"""Table 2, row 2, and Table 1: no pre-training at all."""

_base_ = '../gimp_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc.py'

model = dict(
    data_preprocessor=dict(init_cfg=None),
    aggregator=dict(init_cfg=None),
    gene_encoder=dict(init_cfg=None))
default_hooks = dict(
    load_check=None)
