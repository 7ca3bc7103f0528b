"""GroupMSA as in the paper, one projection for all fragments of genes."""

_base_ = './groupmsa_separate_1xb32-6e_tcga-brca.py'

model = dict(gene_encoder=dict(projection='shared', gene_drop_rate=0.0))
# It learns more slowly.
train_cfg = dict(max_epochs=15)
