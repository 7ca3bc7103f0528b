"""Pathomic Fusion on TCGA-NSCLC: a row of GiMP's Table 1."""

_base_ = [
    '../_base_/models/mil_pathomic-fusion.py',
    '../_base_/datasets/slide_omic_nsclc.py',
    '../_base_/schedules/gimp_adamw_finetune_70e.py',
    '../_base_/slide_omic_runtime.py',
]

# ====================== Unmodified in most cases =======================
gene_stats = dict(type='mmmedmask.GeneStatsHook')
custom_hooks = [gene_stats]
