"""CLAM-SB with cross-entropy for single patches."""

_base_ = '../clam-sb_1xb8-coslr-70e_tcga-nsclc.py'

model = dict(aggregator=dict(instance_loss='ce'))
