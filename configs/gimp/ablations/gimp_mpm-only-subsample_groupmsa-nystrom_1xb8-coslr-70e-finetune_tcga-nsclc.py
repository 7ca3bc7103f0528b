"""Table 2, row 3, with some patches of each slide in fine-tuning."""

_base_ = (
    './gimp_mpm-only_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc.py')

train_dataloader = dict(dataset=dict(pipeline=_base_.subsample_pipeline))
