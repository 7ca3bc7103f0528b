"""Runs along a Hilbert curve over the slide, not in file order."""

_base_ = '../gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py'

pipeline = list(_base_.train_pipeline)
pipeline[1] = dict(pipeline[1], order='hilbert')
train_dataloader = dict(dataset=dict(pipeline=pipeline))
