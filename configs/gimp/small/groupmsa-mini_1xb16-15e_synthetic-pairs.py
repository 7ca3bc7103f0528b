"""First stage on the synthetic pairing: 56,537 genes, minutes of one core.

Learning rate 1e-3 for batches of 1 x 16, 15 epochs; data/synthetic_pairs.
"""

_base_ = [
    '../../_base_/models/gimp_groupmsa.py',
    '../../_base_/datasets/slide_omic_synthetic.py',
    '../../_base_/schedules/gimp_adamw_finetune_70e.py',
    '../../_base_/genes_runtime.py',
]

# ========================= Frequently modified =========================
max_epochs = 15
base_lr = 1e-3
embed_dims = 64

# ====================== Unmodified in most cases =======================
model = dict(
    gene_encoder=dict(num_genes=56537, embed_dims=embed_dims, num_heads=4))
genes_alone = dict(modalities=['genes'], feature_root=None)
train_dataloader = dict(
    batch_size=16, batch_sampler=None, dataset=genes_alone)
val_dataloader = dict(batch_size=16, dataset=genes_alone)
test_dataloader = dict(batch_size=16, dataset=genes_alone)
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [dict(_base_.cosine, begin=0)]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
auto_scale_lr = dict(base_batch_size=16)
default_hooks = dict(logger=dict(interval=1),
                     checkpoint=dict(interval=max_epochs, save_best=None))
log_processor = dict(window_size=1)
