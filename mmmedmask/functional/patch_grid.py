"""The grid of a slide's patches: cells, a curve through them, convolution.

Feature files hold pixel positions of the tissue's patches in some order of
the tool that wrote them. Their grid is found again here: cells for
convolutions over neighbours, and a Hilbert curve, along which patches that
are near in order are near on the slide.

Slides are mostly empty, and a few patches far away make the grid huge. The
convolution lays out only blocks of cells that hold a patch, each with a
border of its neighbours' cells, so that the result is that of the whole grid.
``coords`` are whole pixels (N, 2), a ValueError if not.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmedmask.util.checks import check_range, check_shape

# Side of a block in cells, and numbers laid out at a time.
BLOCK_SIDE = 32
CHUNK_NUMBERS = 1 << 25
# The most frequent distance is at most so many steps.
MOST_STEPS = 128


def _check_coords(coords: Tensor) -> None:
    check_shape('coords', coords, ('N', 2))
    if coords.is_floating_point() or coords.dtype == torch.bool:
        raise ValueError('coords must be whole pixels, int64, got '
                         f'{coords.dtype}')


def grid_step(coords: Tensor) -> float:
    """Find the distance of neighbouring patches, in parts of a pixel.

    It is about the most frequent distance from a patch to the next one in its
    row or column. Where that is less than half of the distances, as in a
    small random part of a slide, it is the largest fraction 1/k of it, k an
    integer, of which three in four distances are multiples, up to a tenth.
    This holds in any order and where each piece of tissue has a grid of its
    own. Positions may be rounded: distances within a pixel of it, and a
    tenth, are averaged.

    If no fraction fits, it is the most frequent distance itself, and the
    smallest of several. Without two patches in one row or column it is the
    smallest difference along an axis, and 1 if all lie at one place.

    Example:
        >>> grid_step(torch.tensor([[0, 0], [0, 256], [256, 0]]))
        256.0
        >>> grid_step(torch.tensor([[0, 0], [0, 224], [0, 449], [0, 673]]))
        224.33333333333334
    """
    _check_coords(coords)
    gaps = torch.cat([_gaps(coords[:, axis], coords[:, 1 - axis])
                      for axis in (0, 1)])
    if not len(gaps):
        gaps = torch.cat([coords[:, axis].unique().diff() for axis in (0, 1)])
        return float(gaps.min()) if len(gaps) else 1.
    values, counts = gaps.unique(return_counts=True)
    step = _step_of(values, counts)
    off = (values - step).abs()
    counts = torch.where((off <= 1) & (10 * off <= step), counts, 0)
    total = int(counts.sum())
    return int((values * counts).sum()) / total if total else step


def _step_of(values: Tensor, counts: Tensor) -> float:
    """Find the step, up to a pixel, of distances that are there so often."""
    frequent = values[counts == counts.max()][0]
    if 2 * counts.max() >= counts.sum():
        return float(frequent)
    # Of distances in a random part about half at most are multiples of two
    # steps, and fewer of three.
    parts = torch.arange(1, MOST_STEPS + 1, device=values.device)
    rest = values * parts[:, None] % frequent
    fits = 10 * torch.minimum(rest, frequent - rest) <= frequent
    fitting = parts[
        4 * (fits * counts).sum(dim=1) >= 3 * counts.sum()].tolist()
    return int(frequent) / (fitting[0] if fitting else 1)


def _gaps(along: Tensor, across: Tensor) -> Tensor:
    """Distances to the next patch along an axis, where there is one."""
    order = along.argsort(stable=True)
    order = order[across[order].argsort(stable=True)]
    gaps = along[order].diff()
    return gaps[(across[order].diff() == 0) & (gaps > 0)]


def grid_cells(coords: Tensor, step: float | None = None) -> Tensor:
    """Put every patch into the nearest cell of a regular grid.

    Gives (N, 2), int64, not negative, in the order of ``coords``. Patches of
    different grids may share a cell.

    Args:
        coords: N is at least 1.
        step: Pixels between neighbouring cells, at least 1; None: see
            :func:`grid_step`.

    Example:
        >>> grid_cells(torch.tensor([[10, 20], [10, 276], [266, 20]]))
        tensor([[0, 0],
                [0, 1],
                [1, 0]])
    """
    _check_coords(coords)
    step = grid_step(coords) if step is None else check_range('step', step, 1)
    shifted = coords.long() - coords.long().amin(dim=0)
    # Not round(), which takes halves to even numbers.
    return (shifted.double() / step + .5).floor().long()


def grid_cells_apart(coords: Tensor, gap: int) -> Tensor:
    """Put patches into cells, those at one place on grids of their own.

    No slide has two patches at one place: there are several slides, or
    copies of patches. Grids lie under one another, ``gap`` cells apart; see
    :func:`grid_cells` for the rest.

    Example:
        >>> grid_cells_apart(torch.tensor([[0, 0], [0, 9], [0, 0]]), 3)
        tensor([[0, 0],
                [0, 1],
                [4, 0]])
    """
    cells = grid_cells(coords)
    place = coords.unique(dim=0, return_inverse=True)[1]
    order = place.argsort(stable=True)
    counts = torch.bincount(place)
    grid = torch.empty_like(place)
    # How many patches before it are at the same place.
    grid[order] = torch.arange(len(place), device=place.device) - (
        counts.cumsum(0) - counts)[place[order]]
    cells[:, 0] += grid * (cells[:, 0].max() + 1 + gap)
    return cells


def hilbert_order(coords: Tensor, step: float | None = None) -> Tensor:
    """Order patches along a Hilbert curve through their grid.

    ``coords[order]`` follows the curve, (N, ), int64; patches of one cell
    stay in the order they had. See :func:`grid_cells` for the arguments.

    Example:
        >>> hilbert_order(torch.tensor([[0, 0], [2, 0], [0, 2], [2, 2]]))
        tensor([0, 2, 3, 1])
    """
    _check_coords(coords)
    if not len(coords):
        return coords.new_zeros(0, dtype=torch.int64)
    return _hilbert_index(grid_cells(coords, step)).argsort(stable=True)


def _hilbert_index(cells: Tensor) -> Tensor:
    """Place of cells (N, 2) on the Hilbert curve of the square around them.

    The curve runs through a square of side ``2^k``. From the coarsest halving
    to the finest, a cell's quadrant gives two bits of its place, and the rest
    of its position is turned and mirrored as the curve is in that quadrant.
    """
    x, y = cells.unbind(dim=1)
    place = torch.zeros_like(x)
    for bit in range(int(cells.max()).bit_length() - 1, -1, -1):
        side = 1 << bit
        right, upper = (x & side) > 0, (y & side) > 0
        quadrant = 3 * right.long() ^ upper.long()
        place += quadrant << (2 * bit)
        x, y = x & (side - 1), y & (side - 1)
        mirrored = right & ~upper
        x = torch.where(mirrored, side - 1 - x, x)
        y = torch.where(mirrored, side - 1 - y, y)
        x, y = torch.where(upper, x, y), torch.where(upper, y, x)
    return place


def stack_cells(cells: Sequence[Tensor], gap: int) -> Tensor:
    """Put the grids of several bags under one another, (sum of N_i, 2).

    Cells of each bag are (N_i, 2), int64, not negative; ``gap`` empty ones
    are between two grids.

    Example:
        >>> stack_cells([torch.tensor([[1, 2]]), torch.tensor([[0, 5]])], 3)
        tensor([[1, 2],
                [5, 5]])
    """
    stacked, start = [], 0
    for bag in cells:
        stacked.append(bag + bag.new_tensor([start, 0]))
        if len(bag):
            start += int(bag[:, 0].max()) + 1 + gap
    return torch.cat(stacked)


def grid_convolution(features: Tensor, cells: Tensor, weight: Tensor,
                     bias: Tensor | None = None) -> Tensor:
    """Convolve each channel over the grid, with zeros where no patch is.

    Gives the result at each patch's cell, (T, C).

    Args:
        features: Shape (T, C). Patches that share a cell enter as their
            mean.
        cells: Their rows and columns, shape (T, 2), int64, not negative.
        weight: One kernel per channel, shape (C, 1, k, k), k odd.
        bias: Shape (C, ).

    Raises:
        ValueError: If k is even.

    Example:
        >>> cells = torch.tensor([[0, 0], [0, 1], [9, 9]])
        >>> grid_convolution(torch.ones(3, 1), cells,
        ...                  torch.ones(1, 1, 3, 3)).flatten()
        tensor([2., 2., 1.])
    """
    radius, rest = divmod(weight.shape[-1], 2)
    if not rest:
        raise ValueError(
            f'the kernel must have an odd side, got {weight.shape[-1]}')
    if not len(features):
        # Of no patch, and still a function of the kernels: distributed
        # training waits for their gradient.
        empty = features + weight.sum()
        return empty if bias is None else empty + bias.sum()
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
        row = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        row = torch.where(keys[row] == wanted, row, len(keys))
        canvas = by_cell[row].permute(0, 3, 1, 2)
        canvas = F.conv2d(canvas, weight, bias, groups=len(weight))
        here = order[ends[start - 1] if start else 0:ends[stop - 1]]
        outputs.append(
            canvas.permute(0, 2, 3, 1).flatten(1, 2)[block_of[here] - start,
                                                     inside[here]])
    return torch.cat(outputs)[order.argsort()[place]]


def _means(features: Tensor, place: Tensor, count: int) -> Tensor:
    """Mean of the patches of each cell, and zeros as the last row."""
    shares = torch.bincount(place, minlength=count).double().reciprocal()
    shares = shares[place, None].to(features.dtype)
    means = features.new_zeros(count + 1, features.shape[1])
    return means.index_add(0, place, features * shares)
