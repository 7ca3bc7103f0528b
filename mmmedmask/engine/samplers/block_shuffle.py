"""Random order in blocks, for data sets that are read from large files."""

from collections.abc import Iterator, Sized

import torch
from mmengine.dataset import DefaultSampler

from mmmedmask.engine.samplers.seeded_batches import epoch_generator
from mmmedmask.registry import DATA_SAMPLERS
from mmmedmask.util.checks import check_integer, check_seed


@DATA_SAMPLERS.register_module()
class BlockShuffleSampler(DefaultSampler):
    """Shuffle blocks of neighbours, and the samples of several blocks.

    The data set is cut into blocks of neighbouring samples, which come in
    random order; the samples of ``mixed_blocks`` blocks that follow each
    other are shuffled together. So at any time few places of a file are
    read, and the memory grows with the number of blocks alone. Each rank has
    blocks of its own.

    Every sample comes once per epoch; where the ranks do not come out even,
    the last ones take of the first samples again, as ``DefaultSampler``
    does. The seed, the epoch and the ranks determine the order, and a
    resumed epoch goes on at once, from any sample.

    Args:
        block_size: Neighbours of a block.
        mixed_blocks: Blocks whose samples are shuffled together.
        seed: Of the order; None draws one, which all ranks share.

    Attributes:
        start: Samples of this rank that the next epoch leaves out, once.

    Raises:
        ValueError: If there are fewer samples than ranks.
    """

    def __init__(self, dataset: Sized, block_size: int = 256,
                 mixed_blocks: int = 64, seed: int | None = None) -> None:
        super().__init__(dataset, shuffle=True, seed=check_seed(seed))
        self.block_size = check_integer('block_size', block_size)
        self.mixed_blocks = check_integer('mixed_blocks', mixed_blocks)
        self.start = 0
        if len(dataset) < self.world_size:
            raise ValueError(f'the data set has {len(dataset)} samples, fewer '
                             f'than {self.world_size} ranks')

    def __iter__(self) -> Iterator[int]:
        start, self.start = self.start, 0
        size, total = self.block_size, len(self.dataset)
        name = type(self).__name__
        order = torch.randperm(
            -(-total // size), generator=epoch_generator(self, name, 'blocks'))
        lengths = torch.full_like(order, size)
        lengths[order == len(order) - 1] = total - size * (len(order) - 1)
        ends = lengths.cumsum(0)
        window = size * self.mixed_blocks
        # This rank's places in the order of blocks; behind the end comes the
        # beginning.
        first = self.rank * self.num_samples
        last = first + self.num_samples
        for low, high in ((first, min(last, total)),
                          (max(first - total, 0), last - total)):
            for place in range(low, high, window):
                stop = min(place + window, high)
                if start >= stop - place:
                    start -= stop - place
                    continue
                places = torch.arange(place, stop)
                block = torch.searchsorted(ends, places, right=True)
                samples = order[block] * size + places - (
                    ends[block] - lengths[block])
                mixed = torch.randperm(len(samples), generator=epoch_generator(
                    self, name, f'rank {self.rank} from {place}'))
                yield from samples[mixed][start:].tolist()
                start = 0
