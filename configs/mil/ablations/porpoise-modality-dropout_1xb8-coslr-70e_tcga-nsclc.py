"""PORPOISE that learns to answer for patients without genes or slides."""

_base_ = '../porpoise_1xb8-coslr-70e_tcga-nsclc.py'

model = dict(fusion=dict(modality_dropout=0.2))
