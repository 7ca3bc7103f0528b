"""GiMP's third stage: slides and genes of whole bags, TCGA-NSCLC, 70 epochs.

The paper's main run, after gimp_*-pretrain_tcga-nsclc.py, whose aggregator
and gene encoder it goes on with.
"""

_base_ = [
    '../_base_/models/gimp_groupmsa-nystrom_cls.py',
    '../_base_/datasets/slide_omic_nsclc.py',
    '../_base_/schedules/gimp_adamw_finetune_70e.py',
    '../_base_/gimp_finetune_runtime.py',
]

# ========================= Frequently modified =========================
# What the second stage leaves; the paper takes its last epoch.
checkpoint = (
    'work_dirs/gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc/'
    'epoch_100.pth')

data_root = 'data/tcga_nsclc/'
batch_size = 8
# For a total batch of 8; --auto-scale-lr scales it to yours.
base_lr = 1e-4
max_epochs = 70
# The paper's; a cohort of hundreds learns more with 'separate' and 0.5.
projection = 'shared'
gene_drop_rate = 0.0

# ====================== Unmodified in most cases =======================
loaded = dict(init_cfg=dict(checkpoint=checkpoint))
model = dict(
    data_preprocessor=loaded,
    aggregator=loaded,
    gene_encoder=dict(
        projection=projection, gene_drop_rate=gene_drop_rate, **loaded))
source = dict(data_root=data_root)
train_dataloader = dict(batch_size=batch_size, dataset=source)
val_dataloader = dict(dataset=source)
test_dataloader = dict(dataset=source)
optim_wrapper = dict(optimizer=dict(lr=base_lr))
train_cfg = dict(max_epochs=max_epochs)
