"""Table 1, "w/o GroupMSA": slides alone, no pre-training."""

_base_ = '../gimp_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc.py'

model = dict(
    data_preprocessor=dict(init_cfg=None),
    aggregator=dict(init_cfg=None),
    gene_encoder=None)
slides = dict(dataset=dict(modalities=['slides']))
train_dataloader = slides
val_dataloader = slides
test_dataloader = slides
default_hooks = dict(
    gene_stats=None,
    load_check=None)
