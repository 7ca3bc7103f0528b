"""Runtime for classifiers that read genes: the training cases' statistics."""

_base_ = './slide_omic_runtime.py'

# ====================== Unmodified in most cases =======================
default_hooks = dict(gene_stats=dict(type='mmmedmask.GeneStatsHook'))
