"""Second stage on the synthetic pairing: runs of 6,000 patches.

Learning rate 1e-3 for batches of 1 x 8, 3 epochs, mask ratio 0.5;
data/synthetic_pairs.
"""

_base_ = [
    '../../_base_/models/gimp_groupmsa-nystrom.py',
    '../../_base_/datasets/slide_omic_synthetic.py',
    '../../_base_/schedules/gimp_adamw_100e.py',
    '../../_base_/gimp_runtime.py',
]

# ========================= Frequently modified =========================
gene_checkpoint = (
    'work_dirs/groupmsa-mini_1xb16-15e_synthetic-pairs/epoch_15.pth')
max_epochs = 3
base_lr = 1e-3
embed_dims = 64

# ========================== Possibly modified ==========================
# Genes are cross-fitted over folds.
gene_folds = 2
gene_epochs = 15
# The paper's 6,000 are no more than the bags have.
length = 6000

# ====================== Unmodified in most cases =======================
model = dict(
    data_preprocessor=dict(init_cfg=dict(checkpoint=gene_checkpoint)),
    aggregator=dict(
        in_dims=128, embed_dims=embed_dims, num_heads=4, num_landmarks=64),
    gene_encoder=dict(
        num_genes=56537,
        embed_dims=embed_dims,
        num_heads=4,
        init_cfg=dict(checkpoint=gene_checkpoint)),
    contrast_head=dict(normalize='each'))
train_dataloader = dict(
    batch_size=8,
    batch_sampler=dict(
        _delete_=True, type='mmmedmask.ClassBalancedBatchSampler'),
    dataset=dict(pipeline=[
        _base_.load_features,
        dict(type='mmmedmask.ContiguousSubsequence', length=length),
        dict(type='mmmedmask.GenerateSequenceMask', ratio=0.5),
        _base_.load_genes,
        _base_.pack_inputs,
    ]))
val_dataloader = None
test_dataloader = None
val_evaluator = None
test_evaluator = None
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [dict(_base_.cosine, begin=0)]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(interval=max_epochs),
    cross_fitted_genes=dict(
        num_folds=gene_folds, max_epochs=gene_epochs, base_lr=base_lr),
    probe=dict(type='mmmedmask.ProbeHook', bags='val', interval=1))
log_processor = dict(window_size=1)
