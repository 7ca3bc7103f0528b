"""GiMP's first stage: GroupMSA learns the class from genes, TCGA-NSCLC.

Its gene encoder, scale and list of genes go on to the second stage,
gimp_*-pretrain_tcga-nsclc.py."""

_base_ = [
    '../_base_/models/gimp_groupmsa.py',
    '../_base_/datasets/slide_omic_nsclc.py',
    '../_base_/schedules/gimp_adamw_finetune_70e.py',
    '../_base_/slide_omic_runtime.py',
]

# ========================= Frequently modified =========================
batch_size = 16

# ====================== Unmodified in most cases =======================
genes_alone = dict(modalities=['genes'], feature_root=None)
train_dataloader = dict(
    batch_size=batch_size,
    # Vectors of genes have one length: there is nothing to pad.
    batch_sampler=None,
    dataset=genes_alone)
val_dataloader = dict(batch_size=batch_size, dataset=genes_alone)
test_dataloader = dict(batch_size=batch_size, dataset=genes_alone)
auto_scale_lr = dict(base_batch_size=batch_size)
custom_hooks = [dict(type='mmmedmask.GeneStatsHook')]
