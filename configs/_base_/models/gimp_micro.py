"""Sizes of GiMP's parts in the demo, for 480 genes and features of 32 numbers.

The keys are taken up by name, ``aggregator=_base_.micro_aggregator``: each
stage inherits its own model.
"""

# ========================== Possibly modified ==========================
micro_dims = 32

# ====================== Unmodified in most cases =======================
micro_aggregator = dict(
    in_dims=32,
    embed_dims=micro_dims,
    # One layer: with two, the class token can collect the class in the
    # first, and the attention of the last need not show where it is.
    num_layers=1,
    num_heads=2,
    num_landmarks=64)
micro_gene_encoder = dict(
    num_genes=480,
    embed_dims=micro_dims,
    num_fragments=48,
    num_groups=8,
    num_heads=4)
