"""After masked patches and triplets; some patches of each slide in training."""

_base_ = '../gimp_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc.py'

train_dataloader = dict(dataset=dict(pipeline=_base_.subsample_pipeline))
