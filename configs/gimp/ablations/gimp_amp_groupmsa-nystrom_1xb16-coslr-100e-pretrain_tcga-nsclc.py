"""The main run in bfloat16, for GPUs that have it."""

_base_ = '../gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py'

optim_wrapper = dict(type='mmmedmask.Bfloat16OptimWrapper')
