"""GiMP's first stage at the size of the demo: genes alone.

480 drawn genes in 48 fragments and 8 groups; 20 of them, in four pathways,
tell the class. Seconds on two CPU cores.

Learning rate 1e-3 for batches of 1 x 16, 12 epochs;
demo_output/data/cohort_phantoms.
"""

_base_ = [
    '../../_base_/models/gimp_groupmsa.py',
    '../../_base_/models/gimp_micro.py',
    '../../_base_/datasets/slide_omic_phantoms.py',
    '../../_base_/schedules/gimp_adamw_finetune_70e.py',
    '../../_base_/genes_runtime.py',
]

# ========================= Frequently modified =========================
max_epochs = 12
batch_size = 16
base_lr = 1e-3

# ========================== Possibly modified ==========================
warmup_epochs = 1

# ====================== Unmodified in most cases =======================
model = dict(
    gene_encoder=dict(_base_.micro_gene_encoder, gene_drop_rate=0.2))
genes_alone = dict(modalities=['genes'], feature_root=None)
train_dataloader = dict(batch_size=batch_size, dataset=genes_alone)
val_dataloader = dict(batch_size=64, dataset=genes_alone)
test_dataloader = dict(batch_size=64, dataset=genes_alone)
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [
    dict(_base_.warm_up, start_factor=0.01, end=warmup_epochs),
    dict(_base_.cosine, begin=warmup_epochs),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
default_hooks = dict(
    logger=dict(interval=4),
    checkpoint=dict(interval=max_epochs, save_best=None))
log_processor = dict(window_size=4)
