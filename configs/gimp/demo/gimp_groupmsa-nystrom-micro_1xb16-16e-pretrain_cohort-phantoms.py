"""GiMP's second stage at the size of the demo: masked patches and triplets.

Runs of 128 of 150 to 300 drawn patches, half of them masked.

Learning rate 5e-3 for batches of 1 x 16, 16 epochs, mask ratio 0.5;
demo_output/data/cohort_phantoms.
"""

_base_ = [
    '../../_base_/models/gimp_groupmsa-nystrom.py',
    '../../_base_/models/gimp_micro.py',
    '../../_base_/datasets/slide_omic_phantoms.py',
    '../../_base_/schedules/gimp_adamw_100e.py',
    '../../_base_/gimp_runtime.py',
]

# ========================= Frequently modified =========================
# Written by tools/demo.py.
gene_checkpoint = 'demo_output/gimp/genes/epoch_12.pth'
max_epochs = 16
batch_size = 16
base_lr = 5e-3

# ========================== Possibly modified ==========================
length = 128
mask_ratio = 0.5
warmup_epochs = 1
margin = 5.0
# Gradients are clipped: at 1, the triplets would leave nothing of the rest.
contrast_weight = 0.1

# ====================== Unmodified in most cases =======================
model = dict(
    data_preprocessor=dict(init_cfg=dict(checkpoint=gene_checkpoint)),
    aggregator=dict(
        _base_.micro_aggregator,
        # So narrow, weights of 0.02 would leave attention uniform for most
        # of the little time that there is.
        init_cfg=dict(type='Xavier', layer='Linear')),
    gene_encoder=dict(
        _base_.micro_gene_encoder, init_cfg=dict(checkpoint=gene_checkpoint)),
    # Halves of length 1. The genes of two patients that were trained on are
    # 0 (one class) or 4 (two) apart, squared: with 0.8 all triplets would be
    # dead, with 5 the slides have to differ, too; else
    # mmmedmask.CrossFittedGenesHook.
    contrast_head=dict(
        normalize='each', margin=margin, loss_weight=contrast_weight))
train_dataloader = dict(
    batch_size=batch_size,
    batch_sampler=dict(type='mmmedmask.ClassBalancedBatchSampler'),
    dataset=dict(
        pipeline=[
            _base_.load_features,
            dict(type='mmmedmask.ContiguousSubsequence', length=length),
            dict(type='mmmedmask.GenerateSequenceMask', ratio=mask_ratio),
            _base_.load_genes,
            _base_.pack_inputs,
        ]))
val_dataloader = None
val_evaluator = None
test_dataloader = None
test_evaluator = None
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [
    dict(_base_.warm_up, start_factor=0.01, end=warmup_epochs),
    dict(_base_.cosine, begin=warmup_epochs),
]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(
    logger=dict(interval=4),
    loss_floors=dict(
        held_out=dict(split='test'), batch_size=batch_size, interval=4),
    triplet_monitor=dict(held_out=dict(split='test')),
    probe=dict(type='mmmedmask.ProbeHook', bags='test', interval=8),
    checkpoint=dict(interval=max_epochs, max_keep_ckpts=1),
    # It takes the time of some first stages, which a demo lacks.
    cross_fitted_genes=None)
log_processor = dict(window_size=4)
