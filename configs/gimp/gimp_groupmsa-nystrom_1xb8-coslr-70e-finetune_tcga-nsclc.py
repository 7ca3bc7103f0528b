"""GiMP's third stage: slides and genes of whole bags, TCGA-NSCLC, 70 epochs.

The paper's main run, after gimp_*-pretrain_tcga-nsclc.py, whose aggregator
and gene encoder it goes on with.
"""

_base_ = [
    '../_base_/models/gimp_groupmsa-nystrom_cls.py',
    '../_base_/datasets/slide_omic_nsclc.py',
    '../_base_/schedules/gimp_adamw_finetune_70e.py',
    '../_base_/slide_omic_runtime.py',
]

# ========================= Frequently modified =========================
# What the second stage leaves; the paper takes its last epoch.
checkpoint = (
    'work_dirs/gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc/'
    'epoch_100.pth')

# ====================== Unmodified in most cases =======================
model = dict(
    data_preprocessor=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint=checkpoint,
            prefix='data_preprocessor.')),
    aggregator=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='aggregator.')),
    gene_encoder=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint,
            prefix='gene_encoder.')))

gene_stats = dict(type='mmmedmask.GeneStatsHook')
# The mask token has done its work.
load_check = dict(
    type='mmmedmask.LoadCheckHook',
    modules=['aggregator', 'gene_encoder'],
    allowed_unused=['mask_token'])
custom_hooks = [gene_stats, load_check]
