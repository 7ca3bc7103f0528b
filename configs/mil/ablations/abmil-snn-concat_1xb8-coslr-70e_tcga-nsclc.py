"""PORPOISE with the two vectors side by side instead of their product."""

_base_ = '../porpoise_1xb8-coslr-70e_tcga-nsclc.py'

model = dict(
    fusion=dict(_delete_=True, type='mmmedmask.ConcatFusion'))
