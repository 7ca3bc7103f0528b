"""GiMP's third stage at the size of the demo: slides and genes, whole bags."""

_base_ = [
    '../../_base_/models/gimp_groupmsa-nystrom_cls.py',
    '../../_base_/datasets/slide_omic_phantoms.py',
    '../../_base_/schedules/gimp_adamw_finetune_70e.py',
    '../../_base_/gimp_finetune_runtime.py',
]

# ========================= Frequently modified =========================
# Both are written by tools/demo.py.
data_root = 'demo_output/data/cohort_phantoms/'
checkpoint = 'demo_output/gimp/pretraining/epoch_16.pth'
max_epochs = 6
batch_size = 8
base_lr = 3e-3

# ========================== Possibly modified ==========================
in_dims = 32
num_genes = 480
embed_dims = 32
warmup_epochs = 1
modality_dropout = 0.5

# ====================== Unmodified in most cases =======================
loaded = dict(checkpoint=checkpoint)
model = dict(
    data_preprocessor=dict(init_cfg=loaded),
    aggregator=dict(
        in_dims=in_dims,
        embed_dims=embed_dims,
        # One layer: with two, the class token can collect the class in the
        # first, and the attention of the last need not show where it is.
        num_layers=1,
        num_heads=2,
        num_landmarks=64,
        with_cp=False,
        init_cfg=loaded),
    gene_encoder=dict(
        num_genes=num_genes,
        embed_dims=embed_dims,
        num_fragments=48,
        num_groups=8,
        num_heads=4,
        init_cfg=loaded),
    # The gene encoder knows the patients that it was trained on by heart: left
    # alone, the whole model would look at genes and ignore slides.
    fusion=dict(modality_dropout=modality_dropout),
    head=dict(hidden_dims=embed_dims),
    # 120 patients are too few to train it any further.
    freeze_gene_encoder=True)
source = dict(data_root=data_root)
train_dataloader = dict(batch_size=batch_size, dataset=source)
val_dataloader = dict(batch_size=16, dataset=source)
test_dataloader = dict(batch_size=16, dataset=source)
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
