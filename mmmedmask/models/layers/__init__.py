"""Bricks that the models of two or more methods use."""

from mmmedmask.models.layers.channel_targets import (
    ChannelMAEHead,
    ChannelSparKHead,
)
from mmmedmask.models.layers.frozen_teacher import FrozenTeacher
from mmmedmask.models.layers.gene_sets import (
    gene_names,
    gene_set_places,
    read_gene_sets,
    write_gene_sets,
)

__all__ = ['ChannelMAEHead', 'ChannelSparKHead', 'FrozenTeacher', 'gene_names',
           'gene_set_places', 'read_gene_sets', 'write_gene_sets']
