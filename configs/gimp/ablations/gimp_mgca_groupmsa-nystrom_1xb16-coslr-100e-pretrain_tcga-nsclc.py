"""MGCA's objective with genes in place of the report (Table 1)."""

_base_ = [
    './gimp_biovil_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py',
]

model = dict(contrast_head=dict(_delete_=True, type='mmmedmask.MGCAHead'))
