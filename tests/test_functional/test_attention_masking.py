"""Partitions of tokens and maps of crops against loops (checks 1 to 6)."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from mmmedmask.functional.attention_masking import (
    map_to_patches,
    partition_tokens,
    plackett_luce_order,
    token_counts,
)

WHOLE = [0.0, 0.0, 1.0, 1.0]


def exponential(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(*shape).exponential_(generator=generator)


@pytest.mark.parametrize(('num_patches', 'want'), [
    (196, (88, 59, 49)), (256, (115, 77, 64)), (64, (28, 20, 16)),
    (49, (22, 14, 13)), (16, (7, 5, 4))])
def test_counts_of_the_paper(num_patches, want):
    """Check 1."""
    assert token_counts(num_patches, 0.45, 0.30) == want


def test_counts_do_not_suffer_from_floats():
    # 400 * 0.29 is 115.99999999999999.
    assert token_counts(400, 0.29, 0.0) == (116, 0, 284)


@pytest.mark.parametrize(('ratios', 'value'), [
    ((-0.1, 0.3), 'mask_ratio .* -0.1'), ((0.45, -0.3), 'throw_ratio .* -0.3'),
    ((0.6, 0.4), '0.6 and throw_ratio 0.4'), ((1.0, 0.0), 'mask_ratio 1.0')])
def test_bad_ratios_are_refused(ratios, value):
    with pytest.raises(ValueError, match=value):
        token_counts(196, *ratios)


def test_partition_is_one():
    partition = partition_tokens(
        torch.rand(8, 196), exponential(8, 196), 0.45, 0.30)
    assert [ids.shape for ids in partition] == [(8, 88), (8, 59), (8, 49)]
    together = torch.cat(list(partition), dim=1).sort(dim=1).values
    assert torch.equal(together, torch.arange(196).expand(8, -1))
    for ids in partition:
        assert torch.equal(ids, ids.sort(dim=1).values)
    for flag, ids in zip((1, -1, 0), partition, strict=True):
        found = (partition.flags() == flag).nonzero()[:, 1].view_as(ids)
        assert torch.equal(found, ids)


def enumerate_inclusion(weights, count):
    """P(token is among the first ``count``), by going through all orders."""
    inclusion = [0.0] * len(weights)
    for order in itertools.permutations(range(len(weights)), count):
        probability, left = 1.0, sum(weights)
        for token in order:
            probability *= weights[token] / left
            left -= weights[token]
        for token in order:
            inclusion[token] += probability
    return inclusion


def test_draws_are_plackett_luce():
    """Check 2, exactly."""
    draws = 200_000
    weights = torch.tensor([1., 2., 3., 4.])
    order = plackett_luce_order(
        weights.expand(draws, -1), exponential(draws, 4))
    first = torch.bincount(order[:, 0], minlength=4) / draws
    # Four standard deviations of a share of 0.25 in 200,000 draws.
    tolerance = 4 * math.sqrt(0.25 / draws)
    for token, want in enumerate((.1, .2, .3, .4)):
        assert abs(float(first[token]) - want) < tolerance
    after_last = order[order[:, 0] == 3, 1]
    second = torch.bincount(after_last, minlength=4) / len(after_last)
    for token, want in enumerate((1 / 6, 2 / 6, 3 / 6, 0)):
        assert abs(float(second[token]) - want) < 2 * tolerance
    want = enumerate_inclusion([1, 2, 3, 4], 2)
    assert [round(one, 4) for one in want] == [.2345, .4413, .6083, .7159]
    top = (order[:, :2, None] == torch.arange(4)).any(dim=1).float().mean(0)
    assert (top - torch.tensor(want)).abs().max() < tolerance


def test_visible_first_draws_those_that_stay_visible():
    """The order from its end: against a loop that draws from an urn."""
    weights, counts = [1.0, 2.0, 3.0, 6.0], (2, 1, 1)
    draws = 20000
    drawn = partition_tokens(
        torch.tensor(weights).expand(draws, -1), exponential(draws, 4),
        0.5, 0.25, visible_first=True)
    assert [ids.shape[1] for ids in drawn] == list(counts)
    generator = torch.Generator().manual_seed(1)
    naive = torch.zeros(3, 4)
    for _ in range(draws):
        left, order = dict(enumerate(weights)), []
        while left:
            place = torch.rand((), generator=generator) * sum(left.values())
            token = next(
                one for one, end in zip(
                    left, itertools.accumulate(left.values()), strict=True)
                if place <= end)
            order.append(token)
            del left[token]
        # First visible, then thrown, then masked.
        for where, token in zip((2, 1, 0, 0), order, strict=True):
            naive[where, token] += 1 / draws
    got = torch.stack([(drawn.flags() == flag).float().mean(dim=0)
                       for flag in (1, -1, 0)])
    assert (got - naive).abs().max() < 4 * (2 * .25 / draws)**.5
    want = enumerate_inclusion(weights, 1)
    assert (got[2] - torch.tensor(want)).abs().max() < .015


def test_only_ratios_of_weights_matter():
    weights, noise = torch.rand(16, 64), exponential(16, 64)
    # A power of two, so that the floats are exactly scaled.
    assert torch.equal(plackett_luce_order(weights, noise),
                       plackett_luce_order(weights * 2**-9, noise))


def test_order_is_that_of_multinomial():
    """Check 3: torch's own draw, from the same numbers."""
    weights = torch.rand(32, 196) + 0.01
    torch.manual_seed(7)
    want = torch.multinomial(weights, 196)
    torch.manual_seed(7)
    noise = torch.empty(32, 196).exponential_()
    assert torch.equal(plackett_luce_order(weights, noise), want)


@pytest.mark.parametrize('row', [
    [0.0] * 64, [float('nan')] + [1.0] * 63, [float('inf')] + [1.0] * 63])
def test_unusable_weights_become_random_masking(row):
    noise = exponential(3, 64)
    weights = torch.rand(3, 64)
    weights[1] = torch.tensor(row)
    order = plackett_luce_order(weights, noise)
    assert torch.equal(order[1], noise[1].argsort(stable=True))
    for good in (0, 2):
        assert torch.equal(order[good], (weights[good] / noise[good]).argsort(
            descending=True, stable=True))


def test_half_precision_weights_are_drawn_in_float32():
    weights = torch.rand(4, 196).half()
    noise = exponential(4, 196)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        order = plackett_luce_order(weights, noise)
    assert torch.equal(order, plackett_luce_order(weights.float(), noise))


def test_zero_weights_come_last_but_in_some_order():
    weights = torch.rand(6, 100)
    weights[:, 40:] = 0.0
    order = plackett_luce_order(weights, exponential(6, 100))
    assert (order[:, :40] < 40).float().mean() > 0.99
    assert torch.equal(order.sort(dim=1).values,
                       torch.arange(100).expand(6, -1))


def naive_crop(image_map, box, flip, grid_size, samples):
    """Means over the points of each of the crop's tokens, bilinear, edges
    replicated."""
    places = []
    for axis, (count, side) in enumerate(zip(
            grid_size, image_map.shape, strict=True)):
        share = (np.arange(count * samples) + .5) / (count * samples)
        share = 1 - share if flip[1 - axis] else share
        low, high = box[1 - axis], box[3 - axis]
        places.append((low + (high - low) * share) * side - .5)
    points = map_coordinates(image_map, np.meshgrid(*places, indexing='ij'),
                             order=1, mode='nearest')
    return points.reshape(
        grid_size[0], samples, grid_size[1], samples).mean(axis=(1, 3))


@pytest.mark.parametrize('flip', [(False, False), (True, False),
                                  (False, True), (True, True)])
@pytest.mark.parametrize('box', [
    WHOLE, [.1, .3, .8, .6], [.5, .5, 1., 1.], [0., .2, .05, .9]])
def test_crop_equals_loops(box, flip):
    """Check 5."""
    maps = torch.rand(1, 5, 7, dtype=torch.float64)
    weights = map_to_patches(maps, torch.tensor([box]), torch.tensor([flip]),
                             (3, 4), samples=4)
    want = naive_crop(maps[0], torch.tensor(box).tolist(), flip, (3, 4), 4)
    assert np.allclose(weights[0], want.ravel(), atol=1e-12, rtol=0)


def test_full_crop_is_a_small_smoothing():
    """Check 6: weights 1/8, 3/4, 1/8 along each axis, edges replicated."""
    maps = torch.rand(2, 14, 14, dtype=torch.float64)
    padded = torch.nn.functional.pad(maps[:, None], (1, 1, 1, 1),
                                     mode='replicate')[:, 0]
    rows = padded[:, :-2] / 8 + padded[:, 1:-1] * .75 + padded[:, 2:] / 8
    want = (rows[..., :-2] / 8 + rows[..., 1:-1] * .75 + rows[..., 2:] / 8)
    got = map_to_patches(maps, torch.tensor([WHOLE] * 2),
                         torch.zeros(2, 2).bool(), (14, 14))
    assert (got.view_as(maps) - want).abs().max() < 1e-14
