"""Runtime for GiMP's pre-training: statistics of the genes, the gene encoder
that must have been loaded, vectors of genes from encoders that have not seen
the patient, the loss beside guesses without a model, and how many triplets
still teach something.
"""

_base_ = './pretrain_runtime.py'

# ========================== Possibly modified ==========================
# Of the first stage, which is repeated on each fold's other patients.
gene_folds = 5
gene_epochs = 70
gene_lr = 1e-4

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    logger=dict(interval=10),
    gene_stats=dict(type='mmmedmask.GeneStatsHook'),
    load_check=dict(type='mmmedmask.LoadCheckHook', modules=['gene_encoder']),
    cross_fitted_genes=dict(
        type='mmmedmask.CrossFittedGenesHook',
        num_folds=gene_folds,
        max_epochs=gene_epochs,
        base_lr=gene_lr),
    loss_floors=dict(
        type='mmmedmask.LossFloorsHook',
        held_out=dict(split='val'),
        batch_size=4),
    triplet_monitor=dict(
        type='mmmedmask.TripletMonitorHook', held_out=dict(split='val')))
