"""After both losses, with some patches of each slide in fine-tuning."""

_base_ = '../gimp_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc.py'

train_dataloader = dict(dataset=dict(pipeline=_base_.subsample_pipeline))
