"""GiMP's third stage at the size of the demo: slides and genes, whole bags.

Learning rate 3e-3 for batches of 1 x 8, 6 epochs;
demo_output/data/cohort_phantoms.
"""

_base_ = [
    '../../_base_/models/gimp_groupmsa-nystrom_cls.py',
    '../../_base_/models/gimp_micro.py',
    '../../_base_/datasets/slide_omic_phantoms.py',
    '../../_base_/schedules/gimp_adamw_finetune_70e.py',
    '../../_base_/gimp_finetune_runtime.py',
]

# ========================= Frequently modified =========================
# Written by tools/demo.py.
checkpoint = 'demo_output/gimp/pretraining/epoch_16.pth'
max_epochs = 6
base_lr = 3e-3

# ========================== Possibly modified ==========================
warmup_epochs = 1
modality_dropout = 0.5

# ====================== Unmodified in most cases =======================
loaded = dict(checkpoint=checkpoint)
model = dict(
    data_preprocessor=dict(init_cfg=loaded),
    aggregator=dict(
        _base_.micro_aggregator, with_cp=False, init_cfg=loaded),
    gene_encoder=dict(_base_.micro_gene_encoder, init_cfg=loaded),
    # The gene encoder knows the patients that it was trained on by heart: left
    # alone, the whole model would look at genes and ignore slides.
    fusion=dict(modality_dropout=modality_dropout),
    head=dict(hidden_dims=_base_.micro_dims),
    # 120 patients are too few to train it any further.
    freeze_gene_encoder=True)
val_dataloader = dict(batch_size=16)
test_dataloader = dict(batch_size=16)
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [
    dict(_base_.warm_up, start_factor=0.01, end=warmup_epochs),
    dict(_base_.cosine, begin=warmup_epochs),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(
    logger=dict(interval=4),
    checkpoint=dict(interval=max_epochs, save_best=None))
log_processor = dict(window_size=4)
