"""TransMIL; some patches of each slide, other ones in each epoch."""

_base_ = '../transmil_1xb8-coslr-70e_tcga-nsclc.py'

train_dataloader = dict(dataset=dict(pipeline=_base_.subsample_pipeline))
