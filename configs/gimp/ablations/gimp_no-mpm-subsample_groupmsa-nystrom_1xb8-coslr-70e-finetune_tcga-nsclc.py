"""Whole slides, after triplets of genes and some patches of each slide."""

_base_ = '../gimp_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc.py'

checkpoint = (
    'work_dirs/gimp_no-mpm-subsample_groupmsa-nystrom_1xb16-coslr-100e-'
    'pretrain_tcga-nsclc/epoch_100.pth')
loaded = dict(init_cfg=dict(checkpoint=checkpoint))
model = dict(
    data_preprocessor=loaded, aggregator=loaded, gene_encoder=loaded)
