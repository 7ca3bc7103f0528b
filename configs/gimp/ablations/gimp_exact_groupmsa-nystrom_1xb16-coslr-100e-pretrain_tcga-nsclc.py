"""Exact attention in place of the Nystrom approximation."""

_base_ = '../gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py'

model = dict(aggregator=dict(attn='exact'))
