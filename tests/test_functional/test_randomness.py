"""Draws depend on a seed, a step and a sample, and on nothing else."""

import pytest
import torch

from mmmedmask.functional import randomness


def test_draws_do_not_depend_on_batch_mates_or_place():
    together = randomness.per_sample_uniform(5, 7, [3, 1, 4], 10)
    assert together.shape == (3, 10)
    assert together.dtype == torch.float64
    for place, index in enumerate((3, 1, 4)):
        assert torch.equal(together[place],
                           randomness.per_sample_uniform(5, 7, [index], 10)[0])
    swapped = randomness.per_sample_uniform(5, 7, [4, 3, 1, 9], 10)
    assert torch.equal(swapped[:3], together[[2, 0, 1]])


def test_draws_do_not_touch_the_global_state():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = randomness.per_sample_uniform(0, 0, [0], 4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(randomness.per_sample_uniform(0, 0, [0], 4), first)


def test_the_first_numbers_stay_when_more_are_drawn():
    assert torch.equal(randomness.per_sample_uniform(1, 2, [3], 20)[:, :8],
                       randomness.per_sample_uniform(1, 2, [3], 8))


@pytest.mark.parametrize('changed', [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_seed_step_and_sample_all_count(changed):
    def draw(seed, step, sample):
        return torch.rand(
            8, generator=randomness.sample_generator(seed, step, sample))

    assert not torch.equal(draw(*changed), draw(0, 0, 0))
    # (1, 0, 0), (0, 1, 0) and (0, 0, 1) are not one stream either.
    others = {(1, 0, 0), (0, 1, 0), (0, 0, 1)} - {changed}
    for other in others:
        assert not torch.equal(draw(*changed), draw(*other))


def test_neighbours_are_uniform_and_unrelated():
    draws = randomness.per_sample_uniform(0, 0, range(1000), 6)
    assert 0 <= draws.min()
    assert draws.max() < 1
    # Standard error of a mean of 1000 uniform numbers: 0.009.
    assert (draws.mean(dim=0) - .5).abs().max() < .04
    assert (draws.std(dim=0) - 12**-.5).abs().max() < .02
    centred = draws - draws.mean(dim=0)
    following = (centred[1:] * centred[:-1]).mean(dim=0) * 12
    assert following.abs().max() < .15
    steps = randomness.per_sample_uniform(0, 1, range(1000), 6)
    across = ((steps - steps.mean(dim=0)) * centred).mean(dim=0) * 12
    assert across.abs().max() < .15


def test_streams_of_one_run_are_unrelated():
    seeds = [randomness.stream_seed(seed, stream)
             for seed in (0, 1, 2**40, -1) for stream in ('', 'a', 'b', 'ab')]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds[1] == randomness.stream_seed(0, 'a')
    one, other = (randomness.per_sample_uniform(
        randomness.stream_seed(0, stream), 0, range(1000), 6) - .5 for stream
                  in 'ab')
    assert ((one * other).mean(dim=0) * 12).abs().max() < .15
