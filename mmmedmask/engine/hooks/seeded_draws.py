"""Draws of dropout and augmentations that a seed and a step determine.

Other libraries draw from global generators, which no checkpoint has.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import BatchSampler

from mmmedmask.engine.samplers.block_shuffle import BlockShuffleSampler
from mmmedmask.functional.randomness import stream_seed
from mmmedmask.registry import HOOKS


@HOOKS.register_module()
class SeededDrawsHook(Hook):
    """Seed all global generators before each sample and each iteration.

    Seeds follow from the run's seed, the iteration, the rank and, for
    samples, the place in the batch. So a resumed run draws what an
    uninterrupted one would, with any number of loader workers. A state from
    the middle of an epoch, of a checkpoint hook with ``by_epoch=False``, goes
    on with the next batch. Transforms with a ``set_epoch`` of their own, see
    :class:`mmmedmask.TransformEpochHook`, need none of this.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Remember a seed that was drawn; a checkpoint may bring another."""
        self._drawn_seed = runner.seed

    def before_train(self, runner: Runner) -> None:
        """Let every iteration over the loader give seeded samples."""
        loader = runner.train_dataloader
        sampler = getattr(loader.batch_sampler, 'sampler', None)
        if getattr(sampler, 'seed', None) == self._drawn_seed:
            sampler.seed = runner.seed
        iterations = isinstance(runner.train_loop, IterBasedTrainLoop)
        skip = _leave_skipping_to_us if iterations else _done_of_epoch
        batches = _NumberedBatches(
            loader.batch_sampler, lambda: runner.iter, skip(runner))
        samples = _SeededSamples(loader.dataset, stream_seed(
            runner.seed, f'samples of rank {get_rank()}'))
        make_iterator = loader._get_iterator

        def seeded_iterator() -> Iterator:
            # All others see the loader as it was. Its attributes cannot be
            # set in the usual way.
            plain = dict(dataset=loader.dataset,
                         batch_sampler=loader.batch_sampler)
            vars(loader).update(dataset=samples, batch_sampler=batches)
            try:
                return make_iterator()
            finally:
                vars(loader).update(plain)

        loader._get_iterator = seeded_iterator

    def before_train_iter(self, runner: Runner, batch_idx: int,
                          data_batch: dict | None = None) -> None:
        """Seed what the model draws, on all devices."""
        seed = stream_seed(
            runner.seed, f'model {runner.iter} of rank {get_rank()}')
        torch.manual_seed(seed)
        _seed_others(seed)


def _seed_others(seed: int) -> None:
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)


def _leave_skipping_to_us(runner: Runner) -> int:
    """Skip what a resumed loop has done by batches, and return how many.

    MMEngine's loop skips samples, which a batch sampler that sorts them by
    shape takes in another order.
    """
    iterator = runner.train_loop.dataloader_iterator
    batches = runner.train_dataloader.batch_sampler
    # Beside a batch sampler, that of the loader is another one.
    sampler = getattr(batches, 'sampler', None)
    if not runner.iter or isinstance(sampler, InfiniteSampler):
        passes, skip = 0, runner.iter
    else:
        passes, skip = divmod(runner.iter, len(batches))

    def skip_passes(steps: int) -> None:
        iterator._epoch = passes
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(passes)

    iterator.skip_iter = skip_passes
    return skip


def _done_of_epoch(runner: Runner) -> int:
    """Count the batches of this epoch that a state in its middle has seen.

    Only states that are saved by iterations lie there; the name tells. One of
    the last iteration has seen all: what ends an epoch is then done without
    batches. An iteration that other ranks or batch sizes counted says nothing.
    """
    done = runner.iter - runner.epoch * len(runner.train_dataloader)
    name = Path(runner.message_hub.runtime_info.get('last_ckpt', '')).name
    if not done or name.startswith('epoch_'):
        return 0
    if 0 < done <= len(runner.train_dataloader):
        return done
    runner.logger.warning(
        f'Iteration {runner.iter} is not in epoch {runner.epoch}, which now '
        f'has {len(runner.train_dataloader)} iterations: the epoch begins '
        'anew.')
    return 0


class _NumberedBatches:
    """A batch sampler whose samples know their iteration and place."""

    def __init__(self, batches: Iterable, iteration: Callable[[], int],
                 skip: int) -> None:
        self.batches = batches
        self.iteration = iteration
        self.skip = skip

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        sampler = getattr(self.batches, 'sampler', None)
        if isinstance(sampler, BlockShuffleSampler) and isinstance(
                self.batches, BatchSampler):
            # It need not draw what is left out.
            sampler.start = self.skip * self.batches.batch_size
            self.skip = 0
        batches = itertools.islice(self.batches, self.skip, None)
        self.skip = 0
        for number, batch in enumerate(batches, self.iteration()):
            yield [(index, number, place) for place, index in enumerate(batch)]


class _SeededSamples:
    """A data set that seeds the global generators before each sample."""

    def __init__(self, dataset: Sequence, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int, int]) -> object:
        index, number, place = key
        seed = stream_seed(self.seed, f'{number} {place}')
        # In workers, CUDA is none of our business.
        torch.default_generator.manual_seed(seed)
        _seed_others(seed)
        return self.dataset[index]
