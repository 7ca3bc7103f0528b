"""Table 2, row 5: triplets of slides and genes, nothing masked."""

_base_ = '../gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py'

model = dict(aggregator=dict(mask_token='zeros'), mpm_head=None)
