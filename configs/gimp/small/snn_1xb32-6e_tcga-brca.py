"""SNN on genes of breast cancers, IDC against ILC; see docs/results.md."""

_base_ = [
    '../../_base_/models/gimp_snn.py',
    '../../_base_/datasets/brca_genes.py',
    '../../_base_/schedules/genes_adamw_6e.py',
    '../../_base_/slide_omic_runtime.py',
]

model = dict(gene_encoder=dict(num_genes=1558))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
custom_hooks = [dict(type='mmmedmask.GeneStatsHook')]
