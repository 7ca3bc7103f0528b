"""Bases of transforms: shown with arguments, and drawn from a seed."""

import inspect

import torch
from mmcv.transforms import BaseTransform

from mmmedmask.functional.randomness import per_sample_uniform, stream_seed
from mmmedmask.util.checks import check_seed


class ShownTransform(BaseTransform):
    """A transform that is printed with those arguments that it keeps."""

    def __repr__(self) -> str:
        shown = [f'{name}={getattr(self, name)!r}'
                 for name in inspect.signature(type(self)).parameters
                 if hasattr(self, name)]
        return f'{type(self).__name__}({", ".join(shown)})'


class SeededTransform(ShownTransform):
    """A random transform that does not depend on its worker's state.

    Needs ``mmmedmask.TransformEpochHook`` in training, which calls
    :meth:`set_epoch`; without it every epoch draws the same. A sample that
    comes several times in one epoch gets the same draws each time, and so do
    samples of one index in concatenated data sets. Views of mmpretrain's
    ``MultiView`` get draws of their own, and so do the second and further
    ones of one class that a sample goes through.

    Args:
        seed: Seed of the draws; None takes the run's.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = check_seed(seed)
        # Epoch and seed of the run.
        self._state = torch.zeros(2, dtype=torch.int64)

    def set_epoch(self, epoch: int, seed: int) -> None:
        """Choose the epoch, from 0, that is drawn for, and the run's seed."""
        # Shared memory lets persistent workers see a new epoch; it is asked
        # for here because copies of a transform lose it.
        self._state.share_memory_().copy_(torch.tensor([epoch, seed]))

    def current_seed(self, stream: str = '') -> int:
        """Seed that counts now, own or the run's; a ``stream`` has its own."""
        seed = int(self._state[1]) if self.seed is None else self.seed
        return stream_seed(seed, stream) if stream else seed

    def draw(self, results: dict, count: int,
             stream: str = '') -> torch.Tensor:
        """Draw numbers (1, count), float64, of a sample in this epoch.

        The key ``view_idx`` of a sample is the number of a view, which has
        draws of its own. How often a sample has been drawn for is kept in its
        key ``draws``, by stream.
        """
        draws = results.get('draws', {})
        before = draws.get(stream, 0)
        # A new dict: views and mixed images have copies of a sample.
        results['draws'] = {**draws, stream: before + 1}
        if 'view_idx' in results:
            stream = f'{stream} {results["view_idx"]}'
        if before:
            stream = f'{stream} again {before}'
        return per_sample_uniform(self.current_seed(stream),
                                  int(self._state[0]),
                                  [results['sample_idx']], count)
