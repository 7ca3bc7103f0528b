"""A queue of keys that is the same on all ranks."""

import torch
from mmengine.dist import all_gather
from torch import nn

from mmmedmask.functional.key_queue import enqueue, unit_keys


class KeyQueue(nn.Module):
    """The newest keys of all ranks, kept with the checkpoint.

    It is a ring: neither the batch nor the number of valid keys has to
    divide its length.

    Args:
        length: Number of keys.
        dims: Length of a key.

    Raises:
        ValueError: If a size is below 1.
    """

    def __init__(self, length: int, dims: int) -> None:
        super().__init__()
        if length < 1 or dims < 1:
            raise ValueError('length and dims must be at least 1, got '
                             f'{length} and {dims}')
        self.register_buffer('keys', unit_keys(length, dims))
        self.register_buffer('pointer', torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def enqueue(self,
                keys: torch.Tensor,
                valid: torch.Tensor | None = None) -> None:
        """Replace the oldest keys by those of all ranks, rank by rank.

        Args:
            keys: Keys of this rank, shape (N, D), N the same on all ranks.
            valid: Which of them to put in, bool, shape (N,); None: all.

        Raises:
            ValueError: If the keys of all ranks do not fit at once.
        """
        if valid is None:
            valid = keys.new_ones(len(keys), dtype=torch.bool)
        keys = torch.cat(all_gather(keys.contiguous()))
        valid = torch.cat(all_gather(valid.contiguous()))
        # New tensors: the backward pass still needs the former keys.
        self.keys, self.pointer = enqueue(self.keys, self.pointer, keys,
                                          valid)
