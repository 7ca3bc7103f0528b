"""Runtime for GiMP's pre-training: statistics of the genes, the gene encoder
that must have been loaded, the loss beside guesses without a model, and how
many triplets still teach something.
"""

_base_ = './pretrain_runtime.py'

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    logger=dict(interval=10),
    gene_stats=dict(type='mmmedmask.GeneStatsHook'),
    load_check=dict(type='mmmedmask.LoadCheckHook', modules=['gene_encoder']),
    loss_floors=dict(
        type='mmmedmask.LossFloorsHook',
        held_out=dict(split='val'),
        batch_size=4),
    triplet_monitor=dict(type='mmmedmask.TripletMonitorHook'))
