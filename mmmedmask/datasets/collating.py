"""Batches of tiles that the workers of a loader hand over at little cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import default_collate

from mmmedmask.registry import FUNCTIONS


@FUNCTIONS.register_module()
def collate_tiles(samples: Sequence[Mapping]) -> dict[str, Any]:
    """Make a batch of packed tiles, stacked where they are alike.

    From a worker every tensor goes as a shared memory of its own, for whose
    handle the main process asks: more work than decoding a tile. So alike
    tiles go in one, and others by value: ``inputs`` are a tensor (B, ...), or
    a list of B. All else is as by MMEngine's ``pseudo_collate``.
    """
    batch = pseudo_collate(samples)
    tiles = batch['inputs']
    alike = len({(tile.shape, tile.dtype) for tile in tiles}) == 1
    return batch | dict(
        inputs=default_collate(tiles) if alike else _ByValue(tiles))


class _ByValue(list):
    """Tensors that another process gets as a plain list, with its values."""

    def __reduce__(self) -> tuple:
        return _tensors, ([tensor.numpy() for tensor in self], )


def _tensors(arrays: Sequence[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]
