"""Slide and gene vectors of length 1 in the triplets."""

_base_ = '../gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py'

model = dict(contrast_head=dict(normalize='each'))
