"""Samplers: which samples make a batch."""

from mmmedmask.engine.samplers.block_shuffle import BlockShuffleSampler
from mmmedmask.engine.samplers.class_balanced import ClassBalancedBatchSampler
from mmmedmask.engine.samplers.length_bucket import LengthBucketBatchSampler

__all__ = ['BlockShuffleSampler', 'ClassBalancedBatchSampler',
           'LengthBucketBatchSampler']
