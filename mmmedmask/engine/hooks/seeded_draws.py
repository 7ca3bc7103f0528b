"""Draws of dropout and augmentations that a seed and a step determine.

Layers and transforms of other libraries draw from the global generators of
PyTorch, NumPy and Python, whose states a checkpoint does not have.
"""

import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmmedmask.functional.randomness import stream_seed
from mmmedmask.registry import HOOKS


@HOOKS.register_module()
class SeededDrawsHook(Hook):
    """Seed all global generators before each sample and each iteration.

    Seeds follow from the run's seed, the iteration, the rank and, for
    samples, the place in the batch. So a resumed run draws what an
    uninterrupted one would, with any number of loader workers, which do not
    draw the same in each epoch either. Transforms with a ``set_epoch`` of
    their own, see :class:`mmmedmask.TransformEpochHook`, need none of this.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Remember a seed that was drawn; a checkpoint may bring another."""
        self._drawn_seed = runner.seed

    def before_train(self, runner: Runner) -> None:
        """Number the batches, and let samples be seeded by the numbers."""
        loader = runner.train_dataloader
        batches = loader.batch_sampler
        for sampler in (loader.sampler, getattr(batches, 'sampler', None)):
            if getattr(sampler, 'seed', None) == self._drawn_seed:
                sampler.seed = runner.seed
        if isinstance(runner.train_loop, IterBasedTrainLoop) and runner.iter \
                and not hasattr(loader.sampler, 'skip'):
            runner.logger.warning(
                'A resumed run with iterations draws what an uninterrupted '
                'one would if its sampler can skip samples, as '
                f'InfiniteSampler can; {type(loader.sampler).__name__} '
                'cannot.')
        if isinstance(batches, _NumberedBatches):
            return
        # Attributes of a loader cannot be set in the usual way.
        object.__setattr__(loader, 'batch_sampler', _NumberedBatches(
            batches, lambda: runner.iter))
        object.__setattr__(loader, 'dataset', SeededSamples(
            loader.dataset, stream_seed(
                runner.seed, f'samples of rank {get_rank()}')))

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


class _NumberedBatches:
    """A batch sampler whose samples know their iteration and place.

    Args:
        batches: The batch sampler.
        first: Gives the iteration of the first batch of a pass.
    """

    def __init__(self, batches: object, first: Callable[[], int]) -> None:
        self.batches = batches
        self.first = first

    def __getattr__(self, name: str) -> object:
        return getattr(self.batches, name)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        for number, batch in enumerate(self.batches, self.first()):
            yield [(index, number, place)
                   for place, index in enumerate(batch)]


class SeededSamples:
    """A data set that seeds the global generators before each sample.

    In all else it is the data set.

    Args:
        dataset: The data set.
        seed: Seed of this process.
    """

    def __init__(self, dataset: object, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __getattr__(self, name: str) -> object:
        # A copy in a worker is empty at first.
        if name == 'dataset':
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int | tuple[int, int, int]) -> object:
        if isinstance(index, tuple):
            index, number, place = index
            seed = stream_seed(self.seed, f'{number} {place}')
            # In workers, CUDA is none of our business.
            torch.default_generator.manual_seed(seed)
            _seed_others(seed)
        return self.dataset[index]
