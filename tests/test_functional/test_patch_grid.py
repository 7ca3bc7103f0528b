"""Grids of patches, the curve through them and convolutions on them."""

import math
from itertools import product
from operator import call

import pytest
import torch
from refusals import refuses

from mmmedmask.functional import patch_grid
from mmmedmask.functional.patch_grid import (
    grid_cells,
    grid_convolution,
    grid_step,
    hilbert_order,
    stack_cells,
)


def full_grid(rows, columns):
    return torch.cartesian_prod(torch.arange(rows), torch.arange(columns))


@pytest.mark.parametrize('share', [1.0, .5, .2])
@pytest.mark.parametrize('step', [256, 513])
def test_step_is_found_in_any_order_and_part(step, share):
    cells = full_grid(30, 40)
    cells = cells[torch.randperm(len(cells))[:int(share * len(cells))]]
    coords = cells * step + torch.tensor([1234, 77])
    assert grid_step(coords) == step
    assert torch.equal(grid_cells(coords), cells - cells.amin(dim=0))


def test_pieces_with_their_own_grids_keep_their_neighbourhoods():
    """As CLAM writes them: each contour starts where its box does."""
    piece = full_grid(6, 5)
    coords = torch.cat([piece * 256 + torch.tensor([1000, 2000]),
                        piece * 256 + torch.tensor([5003, 2101])])
    cells = grid_cells(coords)
    assert torch.equal(cells[:30], piece)
    # 4,003 / 256 is 15.6 and 101 / 256 is 0.4.
    assert torch.equal(cells[30:], piece + torch.tensor([16, 0]))


def naive_step(coords):
    """The greatest common divisor of all distances in rows and columns."""
    return math.gcd(*(abs(a[axis] - b[axis]) for a in coords for b in coords
                      for axis in (0, 1) if a[1 - axis] == b[1 - axis]))


@pytest.mark.parametrize('keep', [64, 200])
def test_step_of_a_small_random_part_is_that_of_all(keep):
    """Chance decides which distance is the most frequent."""
    cells = full_grid(52, 53)
    for seed in range(20):
        order = torch.randperm(len(cells), generator=torch.Generator(
        ).manual_seed(seed))
        coords = cells[order[:keep]] * 256 + 40
        assert grid_step(coords) == naive_step(coords.tolist()) == 256


@pytest.mark.parametrize(('pitch', 'pieces'), [(256, 2), (443.6, 1)])
def test_step_of_a_fiftieth_of_a_slide(pitch, pieces):
    """Of pieces with their own grids, and of positions that were rounded."""
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        cells = full_grid(320, 320)
        apart = (cells // 160 * (pieces - 1)) @ torch.tensor([[64, 23],
                                                              [99, 128]])
        coords = (cells * pitch).round().long() + apart
        part = torch.randperm(len(cells), generator=generator)[:2000]
        assert abs(grid_step(coords[part]) - pitch) < 1


@pytest.mark.parametrize('pitch', [224.5, 443.6, 256.])
@pytest.mark.parametrize('rounded', [torch.round, torch.floor])
def test_cells_do_not_drift_where_positions_were_rounded(pitch, rounded):
    cells = full_grid(300, 20)
    cells = cells[torch.arange(len(cells)) % 7 > 0]
    coords = rounded(cells.double() * pitch).long()
    assert abs(grid_step(coords) - pitch) < .05
    assert torch.equal(grid_cells(coords), cells)


@pytest.mark.parametrize(('coords', 'step'), [
    ([[5, 9]], 1), ([[5, 9], [5, 9]], 1), ([[0, 0], [300, 500]], 300),
    ([[0, 0], [10, 0], [30, 0]], 10)])
def test_step_of_few_patches(coords, step):
    assert grid_step(torch.tensor(coords)) == step


@pytest.mark.parametrize('step', [1, 256, 300])
def test_curve_goes_from_neighbour_to_neighbour(step):
    cells = full_grid(16, 16)[torch.randperm(256)]
    order = hilbert_order(cells * step + 17)
    assert torch.equal(order.sort().values, torch.arange(256))
    moves = cells[order].diff(dim=0).abs().sum(dim=1)
    assert torch.equal(moves, torch.ones_like(moves))


def test_runs_along_the_curve_are_compact():
    """File order, column by column, gives strips; the curve does not."""
    cells = full_grid(64, 64)
    spread = {}
    for name, order in (('file', torch.arange(4096)),
                        ('curve', hilbert_order(cells * 256))):
        runs = cells[order].view(16, 256, 2).double()
        spread[name] = runs.var(dim=1).sum(dim=1).sqrt().mean()
    assert spread['curve'] < .4 * spread['file']


def test_order_of_patches_at_one_place_is_kept():
    coords = torch.tensor([[0, 0], [0, 256], [0, 0], [256, 0], [0, 256]])
    assert hilbert_order(coords).tolist() == [0, 2, 1, 4, 3]
    assert hilbert_order(coords[:1]).tolist() == [0]
    assert hilbert_order(coords[:0]).tolist() == []


def naive_grid_convolution(features, cells, weight, bias):
    """Loops over patches and kernel places, means at shared cells."""
    radius = weight.shape[-1] // 2
    output = bias.expand(len(features), -1).clone()
    for i, j in product(range(-radius, radius + 1), repeat=2):
        # Which patches are at a patch's neighbouring cell.
        near = (cells[:, None] + torch.tensor([i, j]) == cells).all(2).double()
        output += weight[:, 0, i + radius, j + radius] * (
            near @ features / near.sum(1, keepdim=True).clamp(min=1))
    return output


@pytest.mark.parametrize('chunk', [1, 1 << 25])
@pytest.mark.parametrize('kernel', [1, 3, 7])
@pytest.mark.parametrize('spread', [6, 40, 5000])
def test_convolution_equals_loops(monkeypatch, spread, kernel, chunk):
    """Crowded cells, several blocks, and a huge, nearly empty grid."""
    monkeypatch.setattr(patch_grid, 'CHUNK_NUMBERS', chunk)
    cells = torch.cat([torch.randint(0, spread, (50, 2)),
                       full_grid(7, 5) + spread // 2])
    features = torch.randn(85, 4, dtype=torch.float64)
    weight = torch.randn(4, 1, kernel, kernel, dtype=torch.float64)
    bias = torch.randn(4, dtype=torch.float64)
    got = grid_convolution(features, cells, weight, bias)
    want = naive_grid_convolution(features, cells, weight, bias)
    assert (got - want).abs().max() < 1e-12


def test_gradients_of_the_convolution(monkeypatch):
    monkeypatch.setattr(patch_grid, 'BLOCK_SIDE', 4)
    cells = torch.randint(0, 9, (12, 2))
    cells[1] = cells[0]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True)
              for shape in ((12, 2), (2, 1, 3, 3), (2, ))]
    assert torch.autograd.gradcheck(
        lambda x, *weights: grid_convolution(x, cells, *weights), inputs)


def test_memory_follows_the_patches_not_the_grid():
    """Two patches 10 million cells apart."""
    cells = torch.tensor([[0, 0], [10_000_000, 10_000_000]])
    features = torch.ones(2, 2)
    weight = torch.ones(2, 1, 7, 7)
    assert torch.equal(grid_convolution(features, cells, weight), features)


def test_stacked_grids_do_not_touch():
    bags = [full_grid(3, 3), torch.zeros(0, 2, dtype=torch.int64),
            full_grid(2, 4)]
    stacked = stack_cells(bags, 3)
    assert torch.equal(stacked[:9], bags[0])
    assert torch.equal(stacked[9:], bags[2] + torch.tensor([6, 0]))
    features = torch.randn(17, 2, dtype=torch.float64)
    weight = torch.randn(2, 1, 7, 7, dtype=torch.float64)
    together = grid_convolution(features, stacked, weight)
    for part in (slice(9), slice(9, 17)):
        alone = grid_convolution(features[part], stacked[part], weight)
        assert (together[part] - alone).abs().max() < 1e-12


test_bad_arguments_are_refused_by_value = refuses(call, [
    (lambda: grid_step(torch.zeros(3, 3).long()), r'\(3, 3\)'),
    (lambda: grid_cells(torch.zeros(3, 2)), 'float32'),
    (lambda: grid_cells(torch.zeros(3, 2).long(), 0), 'step .* 0'),
    (lambda: hilbert_order(torch.zeros(3).long()), r'\(3,\)'),
    (lambda: grid_convolution(torch.zeros(1, 2), torch.zeros(1, 2).long(),
                              torch.zeros(2, 1, 4, 4)), 'got 4'),
])
