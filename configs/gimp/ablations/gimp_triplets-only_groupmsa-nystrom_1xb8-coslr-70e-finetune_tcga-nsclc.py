"""Table 2, row 4: after triplets of slides alone."""

_base_ = '../gimp_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc.py'

gene_checkpoint = 'work_dirs/groupmsa_1xb16-coslr-70e_tcga-nsclc/best.pth'
checkpoint = (
    'work_dirs/gimp_triplets-only_nystrom_1xb16-coslr-100e-pretrain_'
    'tcga-nsclc/epoch_100.pth')
model = dict(
    data_preprocessor=dict(init_cfg=dict(checkpoint=gene_checkpoint)),
    aggregator=dict(init_cfg=dict(checkpoint=checkpoint)),
    gene_encoder=dict(init_cfg=dict(checkpoint=gene_checkpoint)))
