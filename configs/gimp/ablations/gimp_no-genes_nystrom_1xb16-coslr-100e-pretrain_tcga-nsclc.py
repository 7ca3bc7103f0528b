"""Figure 2b: masked patches and triplets of slides alone."""

_base_ = '../gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py'

model = dict(data_preprocessor=dict(init_cfg=None), gene_encoder=None)
train_dataloader = dict(dataset=dict(modalities=['slides']))
custom_hooks = [_base_.triplet_monitor]
