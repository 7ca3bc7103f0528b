"""Third stage on the synthetic pairing: whole bags and genes.

Learning rate 1e-3 for batches of 1 x 4, 2 epochs; data/synthetic_pairs.
"""

_base_ = [
    '../../_base_/models/gimp_groupmsa-nystrom_cls.py',
    '../../_base_/datasets/slide_omic_synthetic.py',
    '../../_base_/schedules/gimp_adamw_finetune_70e.py',
    '../../_base_/gimp_finetune_runtime.py',
]

# ========================= Frequently modified =========================
checkpoint = (
    'work_dirs/gimp_groupmsa-nystrom-mini_1xb8-3e-pretrain_synthetic-pairs/'
    'epoch_3.pth')
max_epochs = 2
base_lr = 1e-3
embed_dims = 64

# ====================== Unmodified in most cases =======================
loaded = dict(checkpoint=checkpoint)
model = dict(
    data_preprocessor=dict(init_cfg=loaded),
    aggregator=dict(
        in_dims=128,
        embed_dims=embed_dims,
        num_heads=4,
        num_landmarks=64,
        with_cp=False,
        init_cfg=loaded),
    gene_encoder=dict(
        num_genes=56537,
        embed_dims=embed_dims,
        num_heads=4,
        init_cfg=loaded),
    head=dict(hidden_dims=embed_dims))
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [dict(_base_.cosine, begin=0)]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=1),
                     checkpoint=dict(interval=max_epochs, save_best=None))
log_processor = dict(window_size=1)
