"""The hardest triplet of each patient instead of all triplets."""

_base_ = '../gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py'

model = dict(contrast_head=dict(mining='batch_hard'))
