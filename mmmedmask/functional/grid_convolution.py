"""Depth-wise convolution over patches that fill a part of a large grid.

Slides are mostly empty, and a few patches far away make the grid huge. Only
blocks of cells that hold a patch are laid out, each with a border of its
neighbours' cells, so that the result is that of the whole grid.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

# Side of a block in cells, and numbers laid out at a time.
BLOCK_SIDE = 32
CHUNK_NUMBERS = 1 << 25


def stack_cells(cells: Sequence[torch.Tensor], gap: int) -> torch.Tensor:
    """Put the grids of several bags under one another.

    Args:
        cells: Cells of each bag, shape (N_i, 2), int64, not negative.
        gap: Empty cells between two grids.

    Returns:
        Shape (sum of N_i, 2).
    """
    stacked, start = [], 0
    for bag in cells:
        stacked.append(bag + bag.new_tensor([start, 0]))
        if len(bag):
            start += int(bag[:, 0].max()) + 1 + gap
    return torch.cat(stacked)


def grid_convolution(features: torch.Tensor,
                     cells: torch.Tensor,
                     weight: torch.Tensor,
                     bias: torch.Tensor | None = None) -> torch.Tensor:
    """Convolve each channel over the grid, with zeros where no patch is.

    Args:
        features: Shape (T, C). Patches that share a cell enter as their
            mean.
        cells: Their rows and columns, shape (T, 2), int64, not negative.
        weight: One kernel per channel, shape (C, 1, k, k), k odd.
        bias: Shape (C, ).

    Returns:
        Shape (T, C): the result at each patch's cell.

    Raises:
        ValueError: If k is even.
    """
    radius, rest = divmod(weight.shape[-1], 2)
    if not rest:
        raise ValueError(
            f'the kernel must have an odd side, got {weight.shape[-1]}')
    if not len(features):
        return features
    # A border of `radius` cells on all sides of the grid of blocks keeps
    # every lookup inside, and out of the next row.
    width = int(cells[:, 1].max()) + BLOCK_SIDE + 2 * radius
    keys, place = ((cells[:, 0] + radius) * width + cells[:, 1] +
                   radius).unique(return_inverse=True)
    by_cell = _means(features, place, len(keys))
    rows = keys.div(width, rounding_mode='floor') - radius
    columns = keys % width - radius
    block_width = width // BLOCK_SIDE + 1
    blocks, block_of = (
        rows.div(BLOCK_SIDE, rounding_mode='floor') * block_width +
        columns.div(BLOCK_SIDE, rounding_mode='floor')).unique(
            return_inverse=True)
    corners = BLOCK_SIDE * torch.stack(
        [blocks.div(block_width, rounding_mode='floor'),
         blocks % block_width], dim=1)
    inside = rows % BLOCK_SIDE * BLOCK_SIDE + columns % BLOCK_SIDE

    order = block_of.argsort(stable=True)
    ends = torch.bincount(block_of, minlength=len(blocks)).cumsum(0).tolist()
    side = BLOCK_SIDE + 2 * radius
    chunk = max(1, CHUNK_NUMBERS // (side**2 * features.shape[1]))
    window = torch.arange(side, device=cells.device)
    outputs = []
    for start in range(0, len(blocks), chunk):
        stop = min(start + chunk, len(blocks))
        corner = corners[start:stop]
        wanted = ((corner[:, :1] + window)[:, :, None] * width +
                  (corner[:, 1:] + window)[:, None])
        found = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        found = torch.where(keys[found] == wanted, found, len(keys))
        canvas = by_cell[found].permute(0, 3, 1, 2)
        canvas = F.conv2d(canvas, weight, bias, groups=len(weight))
        here = order[ends[start - 1] if start else 0:ends[stop - 1]]
        outputs.append(
            canvas.permute(0, 2, 3, 1).flatten(1, 2)[block_of[here] - start,
                                                     inside[here]])
    return torch.cat(outputs)[order.argsort()[place]]


def _means(features: torch.Tensor, place: torch.Tensor,
           count: int) -> torch.Tensor:
    """Mean of the patches of each cell, and zeros as the last row."""
    shares = torch.bincount(place, minlength=count).double().reciprocal()
    shares = shares[place, None].to(features.dtype)
    means = features.new_zeros(count + 1, features.shape[1])
    return means.index_add(0, place, features * shares)
