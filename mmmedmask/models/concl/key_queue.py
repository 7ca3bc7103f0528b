"""A queue of keys that is the same on all ranks."""

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather
from torch import Tensor, nn

from mmmedmask.util.checks import check_integer


class KeyQueue(nn.Module):
    """The newest keys of all ranks, kept with the checkpoint.

    It is a ring: neither the batch nor the number of valid keys has to
    divide its length. It starts with ``length`` random directions.
    """

    def __init__(self, length: int, dims: int) -> None:
        super().__init__()
        shape = check_integer('length', length), check_integer('dims', dims)
        self.register_buffer('keys', F.normalize(torch.randn(shape), dim=1))
        self.register_buffer('pointer', torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def enqueue(self, keys: Tensor, valid: Tensor | None = None) -> None:
        """Replace the oldest keys by those of all ranks, rank by rank.

        They are (N, dims), N the same on all ranks; ``valid`` (N,), bool,
        says which to put in. The number of valid keys is not read from the
        device, so nothing waits for it. A ValueError as of
        :meth:`check_room`.
        """
        if valid is None:
            valid = keys.new_ones(len(keys), dtype=torch.bool)
        keys = torch.cat(all_gather(keys.contiguous()))
        valid = torch.cat(all_gather(valid.contiguous()))
        self.check_room(len(keys))
        length = len(self.keys)
        count = valid.sum()
        # Valid keys first, in their order; then the place that each takes.
        order = (~valid).byte().argsort(stable=True)
        place = torch.arange(length, device=keys.device) - self.pointer
        place = place % length
        source = order[place.clamp(max=len(keys) - 1)]
        # New tensors: the backward pass still needs the former keys.
        self.keys = torch.where((place < count)[:, None],
                                keys[source].to(self.keys.dtype), self.keys)
        self.pointer = (self.pointer + count) % length

    def check_room(self, count: int) -> None:
        """Raise a ValueError if keys of all ranks do not fit at once."""
        length = len(self.keys)
        if count > length:
            raise ValueError(
                f'a queue of {length} cannot take {count} keys at once, which '
                'is what the tiles of a step, of all processes, may bring, '
                'after the warm-up num_concepts each: queue_len must be at '
                f'least {count}, or the batch or num_concepts smaller')
