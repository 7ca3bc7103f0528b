"""Triplets of genes and some patches of each slide, other ones in each epoch.

From whole slides a cohort of hundreds is remembered patient by patient: all
triplets are satisfied, and slides of others are not told apart.
"""

_base_ = (
    './gimp_no-mpm_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py')

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            _base_.load_features,
            _base_.draw_patches,
            _base_.draw_mask,
            _base_.load_genes,
            _base_.pack_inputs,
        ]))
