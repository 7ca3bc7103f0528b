"""GroupMSA with a projection of its own for each fragment of genes."""

_base_ = '../groupmsa_1xb16-coslr-70e_tcga-nsclc.py'

model = dict(gene_encoder=dict(projection='separate'))
