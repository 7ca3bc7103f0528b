"""SNN on genes of breast cancers, IDC against ILC; see docs/results.md."""

_base_ = './groupmsa_separate_1xb32-6e_tcga-brca.py'

model = dict(
    gene_encoder=dict(
        _delete_=True,
        type='mmmedmask.SNN',
        num_genes=_base_.num_genes,
        embed_dims=256,
        hidden_dims=(256, ),
        drop_rate=0.25))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
