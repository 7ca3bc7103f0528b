"""BioViL's objective on the synthetic pairing."""

_base_ = './gimp_groupmsa-nystrom-mini_1xb8-3e-pretrain_synthetic-pairs.py'

model = dict(
    freeze_gene_encoder=False,
    aggregator=dict(mask_token='zeros'),
    mpm_head=None,
    contrast_head=dict(_delete_=True, type='mmmedmask.BioViLHead'))
default_hooks = dict(
    cross_fitted_genes=None,
    triplet_monitor=None)
