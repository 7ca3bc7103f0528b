"""Batches of bags of similar length, by the number of their patches."""

import math

from mmengine.dataset import DefaultSampler
from mmengine.logging import print_log

from mmmedmask.engine.samplers.seeded_batches import (
    EpochBatchSampler,
    ask_dataset,
    shuffled,
)
from mmmedmask.registry import DATA_SAMPLERS
from mmmedmask.util.checks import check_integer, check_range


@DATA_SAMPLERS.register_module()
class LengthBucketBatchSampler(EpochBatchSampler):
    """Several whole bags in a batch, with little padding and a bounded size.

    Bags are sorted into buckets by length: the longest of a bucket is at
    most ``1 / (1 - max_waste)`` times as long as the shortest. A batch takes
    bags of one bucket, as many as the bucket's longest bag fits into
    ``max_tokens``, and no more than ``batch_size``; a bag that is longer than
    ``max_tokens`` is alone. Every bag comes once per epoch; which ones are
    together, and the order of batches, change from epoch to epoch, their
    number does not. In a distributed run the ranks get batches of similar size
    at the same time, and some batches come twice if they do not come out even.

    Batches hold different numbers of patients, whose losses are averaged:
    those in small batches count more.

    Use it as ``batch_sampler`` beside ``sampler=dict(type=
    'DefaultSampler')``, in training alone: evaluation in several processes
    counts on the order of ``DefaultSampler``. ``batch_size`` is the
    loader's, ``drop_last`` must not be given.

    Args:
        batch_size: Largest number of bags in a batch.
        max_tokens: Largest number of patches of a padded batch, bags times
            the length of the longest.
        max_waste: Largest share of padding in a batch, in [0, 1).

    Raises:
        ValueError: If the data set does not tell the lengths of its bags.
    """

    def __init__(self, sampler: DefaultSampler, batch_size: int,
                 max_tokens: int, max_waste: float = 0.2) -> None:
        super().__init__(sampler, batch_size)
        self.max_tokens = check_integer('max_tokens', max_tokens)
        self.max_waste = check_range('max_waste', max_waste, 0, 1,
                                     open_high=True)
        lengths = ask_dataset(sampler, 'get_num_patches', 'the patches')
        self.buckets = bucket_by_length(lengths, max_waste)
        # A patient without slides takes no place.
        self.sizes = [
            max(1, min(batch_size, max_tokens // max(
                1, max(lengths[index] for index in bucket))))
            for bucket in self.buckets]
        total = sum(-(-len(bucket) // size) for bucket, size in zip(
            self.buckets, self.sizes, strict=True))
        self.num_batches = math.ceil(total / self.num_ranks)
        longer = sum(length > max_tokens for length in lengths)
        if longer:
            print_log(f'{type(self).__name__}: {longer} of {len(lengths)} '
                      f'bags have more than max_tokens={max_tokens} patches, '
                      f'up to {max(lengths)}; each is a batch of its own',
                      logger='current', level=30)

    def plan(self) -> list[list[list[int]]]:
        generator = self.generator('batches')
        batches = []
        for bucket, size in zip(self.buckets, self.sizes, strict=True):
            order = shuffled(bucket, generator)
            batches += [order[start:start + size]
                        for start in range(0, len(order), size)]
        # The last step takes of the first batches what it lacks.
        filled = self.num_batches * self.num_ranks
        batches = (batches * math.ceil(filled / len(batches)))[:filled]
        return shuffled([batches[start:start + self.num_ranks]
                         for start in range(0, filled, self.num_ranks)],
                        generator)


def bucket_by_length(lengths: list[int], max_waste: float) -> list[list[int]]:
    """Sort bags into buckets of similar length, shorter ones first.

    Bags of no patch are in a bucket of their own.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    buckets: list[list[int]] = []
    longest = 0
    for index in order:
        shortest = (1 - max_waste) * longest
        if not buckets or lengths[index] < shortest or (
                not lengths[index] and longest):
            buckets.append([])
            longest = lengths[index]
        buckets[-1].append(index)
    return buckets[::-1]
