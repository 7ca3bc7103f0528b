"""Where the patches of a slide lie: their grid, and curves through it.

Feature files hold pixel positions of the tissue's patches in some order of
the tool that wrote them. Their grid is found again here: cells for
convolutions over neighbours, and a Hilbert curve, along which patches that
are near in order are near on the slide.
"""

import torch


def check_coords(coords: torch.Tensor) -> None:
    """Raise a ValueError unless coordinates are whole numbers (N, 2)."""
    if coords.ndim != 2 or coords.shape[1] != 2:
        raise ValueError('coords must have the shape (N, 2), got '
                         f'{tuple(coords.shape)}')
    if coords.is_floating_point() or coords.dtype == torch.bool:
        raise ValueError('coords must be whole pixels, int64, got '
                         f'{coords.dtype}')


def grid_step(coords: torch.Tensor) -> int:
    """Find the distance of neighbouring patches.

    It is the most frequent distance from a patch to the next one in its row
    or column. This holds in any order, for any random part of a slide, and
    where each piece of tissue has a grid of its own.

    Args:
        coords: Positions in pixels, shape (N, 2), whole numbers.

    Returns:
        The distance in pixels; the smallest of several that are equally
        frequent. Without two patches in one row or column it is the smallest
        difference along an axis, and 1 if all lie at one place.

    Raises:
        ValueError: If ``coords`` is no whole numbers of shape (N, 2).
    """
    check_coords(coords)
    gaps = torch.cat([_gaps(coords[:, axis], coords[:, 1 - axis])
                      for axis in (0, 1)])
    if not len(gaps):
        gaps = torch.cat([coords[:, axis].unique().diff()
                          for axis in (0, 1)])
        return int(gaps.min()) if len(gaps) else 1
    values, counts = gaps.unique(return_counts=True)
    return int(values[counts == counts.max()][0])


def _gaps(along: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """Distances to the next patch along an axis, where there is one."""
    order = along.argsort(stable=True)
    order = order[across[order].argsort(stable=True)]
    gaps = along[order].diff()
    return gaps[(across[order].diff() == 0) & (gaps > 0)]


def grid_cells(coords: torch.Tensor, step: int | None = None) -> torch.Tensor:
    """Put every patch into the nearest cell of a regular grid.

    Args:
        coords: Positions in pixels, shape (N, 2), whole numbers, N >= 1.
        step: Pixels between neighbouring cells; None: see
            :func:`grid_step`.

    Returns:
        Shape (N, 2), int64, not negative, in the order of ``coords``.
        Patches of different grids may share a cell.

    Raises:
        ValueError: If ``coords`` is no whole numbers of shape (N, 2), or
            ``step`` is below 1.
    """
    check_coords(coords)
    if step is not None and step < 1:
        raise ValueError(f'step must be at least 1 pixel, got {step}')
    step = grid_step(coords) if step is None else step
    shifted = coords.long() - coords.long().amin(dim=0) + step // 2
    return shifted.div(step, rounding_mode='floor')


def hilbert_order(coords: torch.Tensor,
                  step: int | None = None) -> torch.Tensor:
    """Order patches along a Hilbert curve through their grid.

    Args:
        coords: Positions in pixels, shape (N, 2), whole numbers.
        step: See :func:`grid_cells`.

    Returns:
        Shape (N, ), int64, so that ``coords[order]`` follows the curve;
        patches of one cell stay in the order they had.

    Raises:
        ValueError: See :func:`grid_cells`.
    """
    check_coords(coords)
    if not len(coords):
        return coords.new_zeros(0, dtype=torch.int64)
    return hilbert_index(grid_cells(coords, step)).argsort(stable=True)


def hilbert_index(cells: torch.Tensor) -> torch.Tensor:
    """Place of cells on the Hilbert curve of the square that holds them.

    The curve runs through a square of side ``2^k``. From the coarsest
    halving to the finest, a cell's quadrant gives two bits of its place, and
    the rest of its position is turned and mirrored as the curve is in that
    quadrant.

    Args:
        cells: Shape (N, 2), int64, not negative, N >= 1.

    Returns:
        Shape (N, ), int64; cells that follow one another on the curve are
        neighbours.
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
