"""Windows of a grid of tokens, for attention that stays inside of them.

Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection"
(ViTDet, ECCV 2022), section 3.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mmmedmask.util.checks import check_integer


def in_windows(function: Callable[[Tensor], Tensor], tokens: Tensor,
               grid: tuple[int, int], window_size: int,
               num_extra_tokens: int = 0) -> Tensor:
    """Call a function of sequences on each window of a grid by itself.

    Windows begin at the upper left; those at the right and lower border are
    smaller if the grid (h, w) is not a multiple. Nothing is padded. Extra
    tokens, such as a class token, go into every window and come out as the
    mean of what the windows make of them, each weighted by its patches. A
    ValueError if ``window_size`` is not positive, or the shapes do not fit.

    Args:
        function: Takes and returns sequences (B, N, C), of any B and N, each
            for itself.
        tokens: Shape (B, E + h * w, C), the ``num_extra_tokens`` E first, then
            the grid row by row, as the result.

    Example:
        >>> tokens = torch.arange(4.).reshape(1, 4, 1)
        >>> in_windows(lambda x: 0 * x + x.mean(1, True), tokens, (1, 4),
        ...            2).flatten()
        tensor([0.5000, 0.5000, 2.5000, 2.5000])
    """
    check_integer('window_size', window_size)
    batch, length, channels = tokens.shape
    height, width = grid
    if length != num_extra_tokens + height * width:
        raise ValueError(f'tokens of shape {tuple(tokens.shape)} are not '
                         f'{num_extra_tokens} extra ones and a grid of {grid}')
    if window_size >= max(grid):
        return function(tokens)
    extra, patches = tokens.split([num_extra_tokens, height * width], dim=1)
    patches = patches.unflatten(1, grid)
    mean = torch.zeros_like(extra)
    bands = []
    for band in _bands(patches, 1, window_size):
        parts = []
        for part in _bands(band, 2, window_size):
            rows, columns = (min(side, window_size)
                             for side in part.shape[1:3])
            windows = part.unflatten(2, (-1, columns)).unflatten(
                1, (-1, rows)).transpose(2, 3)
            shape = windows.shape
            count = shape[1] * shape[2]
            windows = windows.reshape(batch * count, rows * columns, channels)
            output = function(torch.cat(
                [extra.repeat_interleave(count, dim=0), windows], dim=1))
            copies, windows = output.split(
                [num_extra_tokens, rows * columns], dim=1)
            share = rows * columns / (height * width)
            mean = mean + share * copies.unflatten(0, (batch, count)).sum(1)
            parts.append(windows.reshape(shape).transpose(2, 3).flatten(
                3, 4).flatten(1, 2))
        bands.append(torch.cat(parts, dim=2))
    patches = torch.cat(bands, dim=1).flatten(1, 2)
    return torch.cat([mean.to(patches.dtype), patches], dim=1)


def _bands(grid: Tensor, dim: int, size: int) -> list[Tensor]:
    """Cut what whole windows cover from the rest, along one side."""
    whole = grid.shape[dim] // size * size
    parts = grid.split([whole, grid.shape[dim] - whole], dim=dim)
    return [part for part in parts if part.shape[dim]]
