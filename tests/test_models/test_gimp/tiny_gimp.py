"""A tiny GiMP, and batches as its preprocessor would give them."""

import torch
from mmengine.model import BaseModule
from mmpretrain.structures import DataSample
from torch import nn

from mmmedmask.models.gimp import GiMP
from mmmedmask.registry import MODELS

DIMS, GENES, WIDTH = 5, 12, 8
LABELS = (0, 1, 0, 1, 1, 0)
NYSTROM = dict(type='mmmedmask.NystromAggregator', in_dims=DIMS,
               embed_dims=WIDTH, num_heads=2, num_landmarks=4, conv_kernel=5)
GROUPS = dict(type='mmmedmask.GroupMSA', num_genes=GENES, embed_dims=WIDTH,
              num_fragments=6, num_groups=2, num_heads=2)


@MODELS.register_module(force=True)
class CountingEncoder(BaseModule):
    """A gene encoder with dropout that counts what it encodes."""

    def __init__(self, num_genes=GENES, embed_dims=WIDTH):
        super().__init__()
        self.num_genes, self.embed_dims = num_genes, embed_dims
        self.drop = nn.Dropout(.5)
        self.fc = nn.Linear(num_genes, embed_dims)
        self.register_buffer('scale', torch.ones(1))
        self.encoded = 0

    def forward(self, genes):
        self.encoded += len(genes)
        return self.scale * self.fc(self.drop(genes))


def tiny_gimp(dtype=torch.float32, **arguments):
    """A model with all parts; arguments replace them."""
    torch.manual_seed(5)
    parts = dict(aggregator=NYSTROM,
                 gene_encoder=dict(type='mmmedmask.CountingEncoder'),
                 mpm_head=dict(type='mmmedmask.MPMHead'),
                 contrast_head=dict(type='mmmedmask.TripletHead'))
    parts.update(arguments)
    model = GiMP(**parts).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(.2 * torch.randn_like(parameter))
    return model


def batch(dtype=torch.float32, labels=LABELS, length=12, rows=None, seed=0):
    """A batch, and its samples; ``rows`` takes some of the patients."""
    generator = torch.Generator().manual_seed(seed)
    size = len(labels)
    shape = (size, length)
    noise = torch.rand(shape, generator=generator)
    inputs = dict(
        patches=torch.randn(*shape, DIMS, generator=generator, dtype=dtype),
        valid=torch.ones(shape, dtype=torch.bool),
        mask=noise.argsort(dim=1) < length // 2, coords=None,
        genes=torch.randn(size, GENES, generator=generator, dtype=dtype),
        has_genes=torch.ones(size, dtype=torch.bool),
        has_patches=torch.ones(size, dtype=torch.bool))
    samples = [
        DataSample(metainfo=dict(case_id=f'case {index}', sample_idx=index)
                   ).set_gt_label(label)
        for index, label in enumerate(labels)]
    rows = list(range(size)) if rows is None else rows
    return ({name: None if value is None else value[rows]
             for name, value in inputs.items()},
            [samples[row] for row in rows])


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)
