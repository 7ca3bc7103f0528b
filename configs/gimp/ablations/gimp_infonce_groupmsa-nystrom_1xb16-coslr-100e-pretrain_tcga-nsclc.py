"""Contrast of slides and genes (InfoNCE) in place of the triplets."""

_base_ = '../gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py'

model = dict(
    contrast_head=dict(
        _delete_=True,
        type='mmmedmask.InfoNCEHead',
        proj_dims=128,
        image_dims=_base_.embed_dims,
        gene_dims=_base_.embed_dims))
default_hooks = dict(
    triplet_monitor=None)
