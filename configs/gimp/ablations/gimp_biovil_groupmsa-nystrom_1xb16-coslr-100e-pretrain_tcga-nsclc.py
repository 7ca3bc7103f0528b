"""BioViL's objective with genes in place of the report (Table 1)."""

_base_ = [
    './gimp_no-mpm_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py',
]

# ========================= Frequently modified =========================
# Share of the fragments of genes that are hidden.
mask_ratio = 0.15

# ====================== Unmodified in most cases =======================
model = dict(
    # It goes on to learn; so there are no vectors to cross-fit.
    freeze_gene_encoder=False,
    contrast_head=dict(
        _delete_=True, type='mmmedmask.BioViLHead', mask_ratio=mask_ratio))
default_hooks = dict(
    cross_fitted_genes=None,
    triplet_monitor=None)
