"""Slides alone; some patches of each, other ones in each epoch."""

_base_ = './gimp_scratch_nystrom_1xb8-coslr-70e-finetune_tcga-nsclc.py'

train_dataloader = dict(dataset=dict(pipeline=_base_.subsample_pipeline))
