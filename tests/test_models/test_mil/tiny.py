"""Every aggregator at the size of a test, and ragged bags."""

import math
from functools import partial

import torch

from mmmedmask.models import mil
from mmmedmask.models.gimp import NystromAggregator

GENE_SETS = [[0, 3, 4], [1, 2], [4, 5, 6, 7, 9]]
CLAM = dict(in_dims=6, num_classes=3, embed_dims=8, attention_dims=4,
            num_instances=2)
NYSTROM = dict(in_dims=6, embed_dims=8, num_heads=2, num_landmarks=4,
               conv_kernel=3)
TINY = {
    'mean': partial(mil.MeanPool, 6, 8),
    'mean of the features': partial(mil.MeanPool, 6, None),
    'max': partial(mil.MaxPool, 6, 8),
    'ABMIL': partial(mil.ABMIL, 6, 8, 4, gated=False),
    'gated ABMIL': partial(mil.ABMIL, 6, 8, 4),
    'CLAM-SB': partial(mil.CLAM_SB, **CLAM),
    'CLAM-SB, CE': partial(
        mil.CLAM_SB, **CLAM, instance_loss='ce', exclusive_classes=False),
    'CLAM-MB': partial(mil.CLAM_MB, **CLAM),
    'DSMIL': partial(mil.DSMIL, 6, 3, 8, 4),
    'DSMIL on the features': partial(mil.DSMIL, 6, 2, None, 4),
    'TransMIL': partial(mil.TransMIL, **NYSTROM),
    'MCAT': partial(mil.MCAT, 6, 10, GENE_SETS, embed_dims=16, num_heads=2),
    'GiMP': partial(NystromAggregator, **NYSTROM),
    'GiMP with PPEG': partial(NystromAggregator, **NYSTROM, ppeg=True)}


def build(name, dtype=torch.float32):
    """A model whose parameters are large enough to be seen, evaluated."""
    model = TINY[name]().to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(.3 * torch.randn_like(parameter))
    return model.eval()


def ragged(counts, dims=6, dtype=torch.float32):
    """Bags padded with NaN, and their validity."""
    valid = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    patches = torch.randn(len(counts), max(counts), dims, dtype=dtype)
    patches[~valid] = math.nan
    return patches, valid
