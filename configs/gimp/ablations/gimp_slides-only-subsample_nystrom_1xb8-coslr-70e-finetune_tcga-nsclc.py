"""Slides alone, after pre-training with genes; some patches in training."""

_base_ = './gimp_slides-only_nystrom_1xb8-coslr-70e-finetune_tcga-nsclc.py'

train_dataloader = dict(dataset=dict(pipeline=_base_.subsample_pipeline))
