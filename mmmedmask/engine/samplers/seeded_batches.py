"""Base of batch samplers whose batches a seed and an epoch determine.

MMEngine tells both to the sampler that it builds a batch sampler around.
"""

from collections.abc import Iterator

import torch
from mmengine.dataset import DefaultSampler

from mmmedmask.engine.wrapped_datasets import datasets_of, list_sources
from mmmedmask.functional.randomness import stream_seed
from mmmedmask.util.checks import check_integer


class EpochBatchSampler:
    """Batches that all ranks know, of which each takes its own.

    Subclasses write :meth:`plan` and set ``num_batches``, those of each rank
    in an epoch, which no epoch changes: schedules count on it. The order of
    ``sampler`` is not used.
    """

    num_batches: int

    def __init__(self, sampler: DefaultSampler, batch_size: int) -> None:
        if not isinstance(sampler, DefaultSampler):
            raise ValueError(
                f"{type(self).__name__} needs sampler=dict(type="
                f"'DefaultSampler'), got {type(sampler).__name__}")
        self.sampler = sampler
        self.batch_size = check_integer('batch_size', batch_size)
        self.num_ranks = sampler.world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose batches come next."""
        self.sampler.set_epoch(epoch)

    def generator(self, stream: str) -> torch.Generator:
        """Make a generator of this epoch for one kind of draws."""
        return epoch_generator(self.sampler, type(self).__name__, stream)

    def plan(self) -> list[list[list[int]]]:
        """Draw an epoch: for each step the batch of each rank."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[list[int]]:
        for batches in self.plan():
            yield batches[self.sampler.rank]

    def __len__(self) -> int:
        return self.num_batches


def epoch_generator(sampler: DefaultSampler, kind: str,
                    stream: str) -> torch.Generator:
    """Make the generator of a sampler's epoch for one kind of draws."""
    seed = stream_seed(sampler.seed, f'{kind} {sampler.epoch} {stream}')
    return torch.Generator().manual_seed(seed & 0xFFFFFFFF)


def ask_dataset(sampler: DefaultSampler, method: str, what: str) -> list:
    """Ask a sampler's data set, or those it wraps, for a number per sample."""
    dataset = sampler.dataset
    answers = {}
    for part in datasets_of(dataset):
        if hasattr(part, method):
            answers[id(part)] = getattr(part, method)()
        elif not hasattr(part, 'dataset') and not hasattr(part, 'datasets'):
            raise ValueError(
                f'{type(part).__name__} has no {method}(), which tells '
                f'{what} of all samples; mmmedmask.SlideOmicDataset has it')
    values = answers.get(id(dataset))
    if values is None:
        values = [answers[id(source.dataset)][source.index]
                  for source in list_sources(dataset)]
    if not len(values):
        raise ValueError(f'{type(dataset).__name__} has no samples')
    return [int(value) for value in values]


def shuffled(values: list, generator: torch.Generator) -> list:
    """The values in random order."""
    order = torch.randperm(len(values), generator=generator).tolist()
    return [values[place] for place in order]
