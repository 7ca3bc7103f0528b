"""Eq. 3 as it is written: the sum over the masked, not the mean."""

_base_ = '../gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py'

model = dict(mpm_head=dict(reduction='sum'))
