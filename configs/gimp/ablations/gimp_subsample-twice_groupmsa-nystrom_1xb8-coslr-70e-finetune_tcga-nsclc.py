"""Some patches of each slide in both stages, other ones in each epoch."""

_base_ = (
    './gimp_no-mpm-subsample_groupmsa-nystrom_1xb8-coslr-70e-finetune_'
    'tcga-nsclc.py')

train_dataloader = dict(dataset=dict(pipeline=_base_.subsample_pipeline))
