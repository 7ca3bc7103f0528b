"""Table 2, row 1: SNN in place of GroupMSA, no pre-training."""

_base_ = '../gimp_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc.py'

model = dict(
    data_preprocessor=dict(init_cfg=None),
    aggregator=dict(init_cfg=None),
    gene_encoder=dict(
        _delete_=True,
        type='mmmedmask.SNN',
        num_genes=_base_.num_genes,
        embed_dims=256))
default_hooks = dict(
    load_check=None)
