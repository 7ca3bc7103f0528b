"""Triplets with the vectors of genes of the first stage, as in the paper.

It has fitted these very patients: most triplets are satisfied from the start.
"""

_base_ = '../gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py'

default_hooks = dict(
    cross_fitted_genes=None)
