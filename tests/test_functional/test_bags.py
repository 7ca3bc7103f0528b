"""Runs of patches and their masks (checks 13 and 20)."""

import math
from collections import Counter
from operator import call

import pytest
import torch
from refusals import refuses

from mmmedmask.functional.bags import (
    contiguous_run,
    draw_sequence_mask,
)
from mmmedmask.functional.randomness import sample_generator


def test_starts_are_uniform_over_all_possible_ones():
    """Chi-square over 10,000 draws; 7 starts, 6 degrees of freedom."""
    uniform = torch.rand(10_000, dtype=torch.float64,
                         generator=torch.Generator().manual_seed(1))
    runs = [contiguous_run(26, 20, float(one)) for one in uniform]
    assert {stop - start for start, stop in runs} == {20}
    counts = Counter(start for start, _ in runs)
    assert set(counts) == set(range(7))
    mean = len(runs) / 7
    # 22.46 is the 0.1 % point.
    assert sum((count - mean)**2 / mean for count in counts.values()) < 22.46


def test_ends_of_the_slide_are_reached():
    assert contiguous_run(26, 20, 0.0) == (0, 20)
    assert contiguous_run(26, 20, math.nextafter(1, 0)) == (6, 26)
    assert contiguous_run(148_569, 6000, math.nextafter(1, 0)) == (
        142_569, 148_569)


@pytest.mark.parametrize('num_patches', [20, 19, 1])
def test_short_slides_are_taken_whole(num_patches):
    assert contiguous_run(num_patches, 20, .7) == (0, num_patches)


@pytest.mark.parametrize(('length', 'ratio', 'count'), [
    (6000, .5, 3000), (7, .5, 3), (400, .29, 116), (10, 0, 0), (10, 1, 10)])
def test_exactly_the_share_is_masked(length, ratio, count):
    for index in range(5):
        mask = draw_sequence_mask(length, ratio, sample_generator(0, 0, index))
        assert mask.dtype == torch.bool
        assert mask.shape == (length, )
        assert int(mask.sum()) == count


def test_every_patch_is_masked_equally_often():
    draws = 4000
    generator = torch.Generator().manual_seed(0)
    share = sum(draw_sequence_mask(20, .3, generator).double()
                for _ in range(draws)) / draws
    assert (share - .3).abs().max() < 5 * math.sqrt(.3 * .7 / draws)


@pytest.mark.parametrize('unique', [1, 2, 7, 12, 19])
def test_copies_are_masked_together(unique):
    mask = draw_sequence_mask(20, .5, sample_generator(0, 3, 4), unique)
    for place in range(20):
        assert mask[place] == mask[place % unique]
    assert int(mask[:unique].sum()) == unique // 2


def test_masks_follow_seed_epoch_and_sample():
    def mask(*key):
        return draw_sequence_mask(64, .5, sample_generator(*key)).tolist()

    assert mask(0, 1, 2) == mask(0, 1, 2)
    assert len({tuple(mask(*key)) for key in (
        (0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3))}) == 4


test_bad_arguments_are_refused_by_value = refuses(call, [
    (lambda: contiguous_run(0, 5, .5), 'got 0'),
    (lambda: contiguous_run(5, 0, .5), 'got 0'),
    (lambda: contiguous_run(5, 3, 1.0), 'uniform .* 1.0'),
    (lambda: draw_sequence_mask(5, 1.5, None), 'ratio .* 1.5'),
    (lambda: draw_sequence_mask(0, .5, None), 'got 0'),
    (lambda: draw_sequence_mask(5, .5, None, unique=0), 'got 0')])
