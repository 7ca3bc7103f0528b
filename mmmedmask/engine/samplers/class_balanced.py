"""Batches with several patients of several classes, as triplets need them."""

import torch
from mmengine.dataset import DefaultSampler
from mmengine.logging import print_log

from mmmedmask.engine.samplers.seeded_batches import (
    EpochBatchSampler,
    ask_dataset,
    shuffled,
)
from mmmedmask.registry import DATA_SAMPLERS
from mmmedmask.util.checks import check_integer

# A triplet needs a pair of one class and a patient of another.
LEAST = 2


@DATA_SAMPLERS.register_module()
class ClassBalancedBatchSampler(EpochBatchSampler):
    """Batches of full size, in equal parts of several classes.

    Every batch of every rank has at least 2 classes with at least 2 samples
    each, so that triplets exist. Classes get equal shares; one that has
    fewer samples than its share gives all it has, and the others the rest.
    No sample is twice in a batch, unless the data set repeats it. The samples
    of a class come in random order, each before one comes again, and an epoch
    is over after ``len(data set) // (batch_size * ranks)`` steps: of classes
    of unequal size, samples of small ones come several times in an epoch,
    some of large ones not at all. With two classes of equal size, two ranks
    have together the patients that one process with twice the batch size has.

    Use it as ``batch_sampler`` beside ``sampler=dict(type=
    'DefaultSampler')``; ``batch_size`` is the loader's, ``drop_last`` must
    not be given.

    Args:
        batch_size: Samples of a batch on each rank, at least 4.

    Raises:
        ValueError: If the data set does not tell its labels, has fewer
            samples than a step of all ranks, one class or a class with one
            sample.
    """

    def __init__(self, sampler: DefaultSampler, batch_size: int) -> None:
        super().__init__(sampler, batch_size)
        check_integer(f'batch_size ({LEAST} classes with {LEAST} samples '
                      'each, or more)', batch_size, LEAST**2)
        labels = ask_dataset(sampler, 'get_gt_labels', 'the class')
        self.members: dict[int, list[int]] = {}
        for index, label in enumerate(labels):
            self.members.setdefault(label, []).append(index)
        self._check_classes()
        # As many as there are, or as fit; drawn anew for each batch.
        self.classes_per_batch = classes_per_batch = min(
            len(self.members), batch_size // LEAST)
        sizes = sorted(map(len, self.members.values()))
        fewest = sum(sizes[:classes_per_batch])
        if fewest < batch_size:
            raise ValueError(f'{classes_per_batch} classes may have {fewest} '
                             'samples together, fewer than a batch of '
                             f'{batch_size}: take a smaller batch_size')
        step = batch_size * self.num_ranks
        self.num_batches = len(labels) // step
        if not self.num_batches:
            raise ValueError(f'the data set has {len(labels)} samples, a step '
                             f'of {self.num_ranks} ranks with batches of '
                             f'{batch_size} takes {step}')
        share = step // classes_per_batch
        few = [self._name(label) for label, members in self.members.items()
               if len(members) < share]
        if few:
            print_log(f'{type(self).__name__}: a step takes {share} samples '
                      f'of a class; of {few} there are fewer',
                      logger='current', level=30)

    def _check_classes(self) -> None:
        if len(self.members) < LEAST:
            raise ValueError(
                f'balanced batches need at least {LEAST} classes, all samples '
                f'are of {", ".join(map(self._name, self.members))}')
        alone = [self._name(label) for label, members
                 in sorted(self.members.items()) if len(members) < LEAST]
        if alone:
            raise ValueError(
                f'each class needs at least {LEAST} samples, for a pair; of '
                f'{", ".join(alone)} there is 1: add some, or leave the '
                "class out (metainfo=dict(classes=...), "
                "unlisted_labels='drop')")

    def _name(self, label: int) -> str:
        classes = getattr(self.sampler.dataset, 'metainfo', {}).get(
            'classes', ())
        return classes[label] if 0 <= label < len(classes) else str(label)

    def plan(self) -> list[list[list[int]]]:
        streams = {label: _Stream(members, self.generator(f'class {label}'))
                   for label, members in self.members.items()}
        generator = self.generator('batches')
        return [self._draw_step(streams, generator)
                for _ in range(self.num_batches)]

    def _draw_step(self, streams: dict[int, '_Stream'],
                   generator: torch.Generator) -> list[list[int]]:
        counts = []
        for _ in range(self.num_ranks):
            # The first ones get one more if the batch is not a multiple.
            chosen = shuffled(list(streams), generator)
            counts.append(share_out(self.batch_size, {
                label: len(self.members[label])
                for label in chosen[:self.classes_per_batch]}))
        batches: list[list[int]] = [[] for _ in counts]
        for label, stream in streams.items():
            parts = stream.take([count.get(label, 0) for count in counts])
            for batch, part in zip(batches, parts, strict=True):
                batch += part
        return [shuffled(batch, generator) for batch in batches]


def share_out(total: int, limits: dict[int, int]) -> dict[int, int]:
    """Share a number out in equal parts, none above its limit.

    The first ones get one more; ``total`` is at most the limits' sum.
    """
    parts: dict[int, int] = {}
    # The smallest first: what they leave is for the others.
    for place, name in enumerate(sorted(limits, key=limits.get)):
        left = len(limits) - place
        parts[name] = min(limits[name], -(-total // left))
        total -= parts[name]
    return parts


class _Stream:
    """The samples of a class in random order, again and again."""

    def __init__(self, members: list[int], generator: torch.Generator) -> None:
        self.members = members
        self.generator = generator
        self.queue: list[int] = []

    def take(self, counts: list[int]) -> list[list[int]]:
        """Give the next samples for several batches.

        A patient is at most once in a batch, and at most once in all batches
        together if there are enough.
        """
        if sum(counts) > len(self.members):
            return [self._next(count) for count in counts]
        chosen = iter(self._next(sum(counts)))
        return [[next(chosen) for _ in range(count)] for count in counts]

    def _next(self, count: int) -> list[int]:
        if len(self.queue) < count:
            # Those who are still to come are first, then the others, then
            # they again: the next pass begins behind them.
            waiting = set(self.queue)
            order = shuffled(self.members, self.generator)
            self.queue += sorted(order, key=waiting.__contains__)
        chosen, self.queue = self.queue[:count], self.queue[count:]
        return chosen
