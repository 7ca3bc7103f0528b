"""The third stage of the demo from slides alone, after the same pre-training.

What it misses beside the whole model is what the genes add.
"""

_base_ = './gimp_groupmsa-nystrom-micro_1xb8-6e-finetune_cohort-phantoms.py'

# ====================== Unmodified in most cases =======================
model = dict(
    data_preprocessor=dict(init_cfg=None),
    gene_encoder=None,
    fusion=None,
    freeze_gene_encoder=False)
slides_alone = dict(modalities=['slides'])
train_dataloader = dict(dataset=slides_alone)
val_dataloader = dict(dataset=slides_alone)
test_dataloader = dict(dataset=slides_alone)
default_hooks = dict(
    gene_stats=None,
    load_check=dict(modules=['aggregator']))
