"""SNN on the genes of TCGA-NSCLC, instead of GroupMSA (Table 1)."""

_base_ = './groupmsa_1xb16-coslr-70e_tcga-nsclc.py'

model = dict(
    gene_encoder=dict(
        _delete_=True,
        type='mmmedmask.SNN',
        num_genes=_base_.num_genes,
        embed_dims=256,
        hidden_dims=(256, ),
        drop_rate=0.25))
