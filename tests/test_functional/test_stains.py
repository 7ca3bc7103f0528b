"""Stains of a batch against loops in float64, and against known stains."""

import math

import numpy as np
import pytest
import torch

from mmmedmask.functional.stains import (
    BACKGROUND_DENSITY,
    DARKEST,
    MIN_ANGLE,
    MIN_TISSUE_PIXELS,
    REFERENCE_STAINS,
    change_stains,
    estimate_stains,
)
from mmmedmask.functional.views import COLOR_DRAWS, ColorFamily


def unit(vector):
    return np.asarray(vector) / np.linalg.norm(vector)


REFERENCE = np.stack([unit(stain) for stain in REFERENCE_STAINS])
OTHERS = np.stack([unit((.55, .75, .4)), unit((.2, .95, .25))])


def drawn_tissue(stains, size=(40, 50), seed=0, background=.2):
    """Pixels with random amounts of two stains, (3, h, w) in [0, 1]."""
    random = np.random.default_rng(seed)
    # Most pixels have both stains, some one of the two alone.
    amounts = random.uniform(.3, 1., (*size, 2))
    kind = random.uniform(size=size)
    amounts[kind < .1, 0] = 0
    amounts[kind > .9, 1] = 0
    amounts[random.uniform(size=size) < background] = 0
    return (10**-(amounts @ stains)).transpose(2, 0, 1)


def naive_stains(image, step):
    """Macenko et al. by loops over the pixels of one image."""
    densities = []
    for pixel in image[:, ::step[0], ::step[1]].reshape(3, -1).T:
        density = [-math.log10(min(max(value, DARKEST), 1)) for value in pixel]
        if sum(density) / 3 > BACKGROUND_DENSITY:
            densities.append(density)
    if len(densities) < MIN_TISSUE_PIXELS:
        return REFERENCE
    axes = np.linalg.svd(np.array(densities))[2][:2]
    axes = [axis * np.sign(axis.sum()) for axis in axes]
    angles = sorted(math.atan2(density @ axes[1], density @ axes[0])
                    for density in np.array(densities))
    low = angles[round(.01 * (len(angles) - 1))]
    high = angles[round(.99 * (len(angles) - 1))]
    if high - low < MIN_ANGLE:
        return REFERENCE
    stains = [math.cos(angle) * axes[0] + math.sin(angle) * axes[1]
              for angle in (low, high)]
    return np.stack(sorted(stains, key=lambda stain: -stain[0]))


def naive_change(image, stains, factors, shifts):
    """Solve for the amounts of every pixel, and mix again."""
    changed = np.empty_like(image)
    for place in np.ndindex(image.shape[1:]):
        density = -np.log10(image[:, *place].clip(DARKEST, 1))
        amounts = np.linalg.lstsq(stains.T, density, rcond=None)[0]
        rest = density - amounts @ stains
        new = factors * amounts + shifts
        changed[:, *place] = 10**-(rest + new @ stains)
    return changed.clip(0, 1)


@pytest.fixture(name='images')
def fixture_images():
    one_stain = np.stack([REFERENCE[0], REFERENCE[0]])
    # In turn: two pairs of stains, too few pixels of tissue, one stain.
    return np.stack([drawn_tissue(REFERENCE), drawn_tissue(OTHERS, seed=1),
                     drawn_tissue(REFERENCE, background=.995),
                     drawn_tissue(one_stain, seed=2)])


def test_stains_are_those_of_loops_in_float64(images):
    got = estimate_stains(torch.from_numpy(images).float())
    for index, image in enumerate(images):
        assert np.allclose(got[index], naive_stains(image, (1, 1)), atol=2e-3)
    assert np.allclose(got[2:], REFERENCE, atol=1e-6)


def test_large_images_are_looked_at_in_steps():
    image = drawn_tissue(OTHERS, size=(130, 70))
    got = estimate_stains(torch.from_numpy(image)[None])
    assert np.allclose(got[0], naive_stains(image, (3, 2)), atol=1e-8)


def test_stains_are_found_that_were_drawn(images):
    got = estimate_stains(torch.from_numpy(images[:2]))
    for index, truth in enumerate((REFERENCE, OTHERS)):
        cosines = (got[index].numpy() * truth).sum(axis=1)
        assert cosines.min() > math.cos(math.radians(1.5))


def test_changes_are_those_of_loops_in_float64(images):
    factors = np.array([[1.2, .8], [.9, 1.1], [1.1, 1.2], [1., .85]])
    shifts = np.array([[.05, 0.], [-.03, .04], [0., .02], [.01, -.05]])
    got = change_stains(torch.from_numpy(images).float(),
                        torch.from_numpy(factors), torch.from_numpy(shifts))
    for index, image in enumerate(images):
        stains = naive_stains(image, (1, 1))
        expected = naive_change(image, stains, factors[index], shifts[index])
        assert np.abs(got[index].numpy() - expected).max() < 2e-3


def test_more_of_one_stain_is_what_a_drawing_with_more_of_it_shows():
    """Twice the haematoxylin, known before it is mixed."""
    random = np.random.default_rng(3)
    amounts = random.uniform(.05, .4, (30, 30, 2))
    amounts[:10, :, 0] = 0
    amounts[20:, :, 1] = 0
    amounts[:, :, :] += (amounts == 0) * 1e-3
    pictures = [(10**-(amounts * factor @ REFERENCE)).transpose(2, 0, 1)
                for factor in ((1, 1), (2, 1))]
    got = change_stains(torch.from_numpy(pictures[0])[None],
                        torch.tensor([[2., 1.]]), torch.zeros(1, 2))
    assert np.abs(got[0].numpy() - pictures[1]).max() < .02


def test_draws_of_stains_change_no_other_draw():
    uniform = torch.rand(5000, COLOR_DRAWS, dtype=torch.float64,
                         generator=torch.Generator().manual_seed(0))
    plain = ColorFamily().draw(uniform)
    colors = ColorFamily(
        stain_prob=.3, stain_factor=.5, stain_shift=.1).draw(uniform)
    assert not plain.stain.any()
    for name in ('jitter', 'factors', 'order', 'gray', 'blur', 'sigma'):
        assert torch.equal(getattr(plain, name), getattr(colors, name))
    assert colors.stain.double().mean() == pytest.approx(.3, abs=.02)
    for values, low, high in ((colors.stain_factors, .5, 1.5),
                              (colors.stain_shifts, -.1, .1)):
        assert low <= float(values.min()) < low + .01 * (high - low)
        assert high - .01 * (high - low) < float(values.max()) <= high
    # Nor do they follow the numbers that they share bits with.
    drawn = torch.cat([colors.stain[:, None].double(), colors.stain_factors,
                       colors.stain_shifts, uniform], dim=1)
    correlation = torch.corrcoef(drawn.T) - torch.eye(drawn.shape[1])
    assert float(correlation.abs().max()) < .06


def test_only_chosen_images_change(images):
    batch = torch.from_numpy(images)
    uniform = torch.rand(4, COLOR_DRAWS, dtype=torch.float64,
                         generator=torch.Generator().manual_seed(1))
    colors = ColorFamily(stain_prob=.5).draw(uniform)
    assert 0 < int(colors.stain.sum()) < 4
    changed = (colors.change_stains(batch) != batch).flatten(1).any(dim=1)
    assert torch.equal(changed, colors.stain)
