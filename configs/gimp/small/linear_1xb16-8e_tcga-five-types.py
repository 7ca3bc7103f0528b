"""A linear classifier of 56,537 genes, five types; see docs/results.md."""

_base_ = './groupmsa_separate_1xb16-8e_tcga-five-types.py'

model = dict(
    gene_encoder=dict(
        _delete_=True,
        type='mmmedmask.LinearGeneEncoder',
        num_genes=_base_.num_genes,
        embed_dims=256))
