"""GiMP's first stage at the size of the demo: genes alone.

480 drawn genes in 48 fragments and 8 groups; 20 of them, in four pathways,
tell the class. Seconds on two CPU cores.
"""

_base_ = [
    '../../_base_/models/gimp_groupmsa.py',
    '../../_base_/datasets/slide_omic_phantoms.py',
    '../../_base_/schedules/gimp_adamw_finetune_70e.py',
    '../../_base_/genes_runtime.py',
]

# ========================= Frequently modified =========================
# Written by tools/demo.py.
data_root = 'demo_output/data/cohort_phantoms/'
max_epochs = 12
batch_size = 16
base_lr = 1e-3

# ========================== Possibly modified ==========================
num_genes = 480
embed_dims = 32
warmup_epochs = 1

# ====================== Unmodified in most cases =======================
model = dict(
    gene_encoder=dict(
        num_genes=num_genes,
        embed_dims=embed_dims,
        num_fragments=48,
        num_groups=8,
        num_heads=4,
        gene_drop_rate=0.2))
genes_alone = dict(
    data_root=data_root, modalities=['genes'], feature_root=None)
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
