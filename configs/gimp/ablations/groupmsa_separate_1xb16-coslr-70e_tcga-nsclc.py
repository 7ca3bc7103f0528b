"""GroupMSA with a projection for each fragment, and gene dropout."""

_base_ = '../groupmsa_1xb16-coslr-70e_tcga-nsclc.py'

model = dict(gene_encoder=dict(
    projection='separate', gene_drop_rate=0.5))
