"""MGCA's objective with genes in place of the report (Table 1)."""

_base_ = [
    './gimp_biovil_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py',
]

# ========================= Frequently modified =========================
# 500 in its code, for 72 pairs per GPU; here a batch has 16 patients.
num_prototypes = 32

# ====================== Unmodified in most cases =======================
model = dict(
    contrast_head=dict(
        _delete_=True,
        type='mmmedmask.MGCAHead',
        num_prototypes=num_prototypes))
