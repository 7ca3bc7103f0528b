"""GiMP's second stage: masked patches and triplets on TCGA-NSCLC, 100 epochs.

The paper's main run. The first stage, groupmsa_*_tcga-nsclc.py, leaves the
gene encoder that is frozen here; the third is *-finetune_tcga-nsclc.py.
"""

_base_ = [
    '../_base_/models/gimp_groupmsa-nystrom.py',
    '../_base_/datasets/slide_omic_nsclc_gimp.py',
    '../_base_/schedules/gimp_adamw_100e.py',
    '../_base_/gimp_runtime.py',
]

# ========================= Frequently modified =========================
# What the first stage leaves: gene encoder, scale and list of genes.
gene_checkpoint = 'work_dirs/groupmsa_1xb16-coslr-70e_tcga-nsclc/epoch_70.pth'

# ====================== Unmodified in most cases =======================
model = dict(
    data_preprocessor=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint=gene_checkpoint,
            prefix='data_preprocessor.')),
    gene_encoder=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint=gene_checkpoint,
            prefix='gene_encoder.')))

# Hooks that a child may leave out, since it has no genes or no triplets.
gene_stats = dict(type='mmmedmask.GeneStatsHook')
load_check = dict(type='mmmedmask.LoadCheckHook', modules=['gene_encoder'])
triplet_monitor = dict(type='mmmedmask.TripletMonitorHook')
custom_hooks = [gene_stats, load_check, triplet_monitor]
