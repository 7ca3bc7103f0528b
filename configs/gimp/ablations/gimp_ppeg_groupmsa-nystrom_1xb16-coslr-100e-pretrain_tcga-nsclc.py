"""Positions on the slide, by convolutions over neighbours (PPEG)."""

_base_ = '../gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py'

model = dict(aggregator=dict(ppeg=True))
