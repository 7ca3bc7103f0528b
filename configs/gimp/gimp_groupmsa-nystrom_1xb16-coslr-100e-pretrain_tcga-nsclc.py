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
gene_checkpoint = 'work_dirs/groupmsa_1xb16-coslr-70e_tcga-nsclc/best.pth'

data_root = 'data/tcga_nsclc/'
batch_size = 16  # per GPU
# For a total batch of 16; --auto-scale-lr scales it to yours.
base_lr = 1e-4
max_epochs = 100
# Patches of a run, L, and the share of them that is masked.
length = 6000
mask_ratio = 0.5
# The paper's; a cohort of hundreds learns more with 'separate' and 0.5.
projection = 'shared'
gene_drop_rate = 0.0

# ====================== Unmodified in most cases =======================
loaded = dict(init_cfg=dict(checkpoint=gene_checkpoint))
model = dict(
    data_preprocessor=loaded,
    gene_encoder=dict(
        projection=projection, gene_drop_rate=gene_drop_rate, **loaded))
take_run = dict(_base_.take_run, length=length)
draw_mask = dict(_base_.draw_mask, ratio=mask_ratio)
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        data_root=data_root,
        pipeline=[
            _base_.load_features,
            take_run,
            draw_mask,
            _base_.load_genes,
            _base_.pack_inputs,
        ]))
optim_wrapper = dict(optimizer=dict(lr=base_lr))
train_cfg = dict(max_epochs=max_epochs)
