"""GroupMSA as in the paper, one projection for all 960 fragments."""

_base_ = './groupmsa_separate_1xb16-8e_tcga-five-types.py'

model = dict(gene_encoder=dict(projection='shared'))
