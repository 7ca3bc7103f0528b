"""GiMP's first stage: GroupMSA learns the class from genes, TCGA-NSCLC.

Its gene encoder, scale and list of genes go on to the second stage,
gimp_*-pretrain_tcga-nsclc.py."""

_base_ = [
    '../_base_/models/gimp_groupmsa.py',
    '../_base_/datasets/slide_omic_nsclc.py',
    '../_base_/schedules/gimp_adamw_finetune_70e.py',
    '../_base_/genes_runtime.py',
]

# ========================= Frequently modified =========================
data_root = 'data/tcga_nsclc/'
batch_size = 16
# For a total batch of 16; --auto-scale-lr scales it to yours.
base_lr = 1e-4
max_epochs = 70
# The paper's; a cohort of hundreds learns more with 'separate' and 0.5.
projection = 'shared'
gene_drop_rate = 0.0

# ====================== Unmodified in most cases =======================
genes_alone = dict(
    data_root=data_root, modalities=['genes'], feature_root=None)
train_dataloader = dict(
    batch_size=batch_size,
    # Vectors of genes have one length: there is nothing to pad.
    batch_sampler=None,
    dataset=genes_alone)
val_dataloader = dict(batch_size=batch_size, dataset=genes_alone)
test_dataloader = dict(batch_size=batch_size, dataset=genes_alone)
model = dict(gene_encoder=dict(
    projection=projection, gene_drop_rate=gene_drop_rate))
optim_wrapper = dict(optimizer=dict(lr=base_lr))
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
