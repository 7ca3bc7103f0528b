"""Floors of a loss against loops over places."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from sklearn.linear_model import LinearRegression

from mmmedmask.functional.loss_floors import (
    MaskedTargets,
    fit_guesses,
    guess_errors,
    prediction_error,
    thin_places,
    visible_color,
    weighted_median,
)

ERRORS = dict(squared=lambda error: error**2, absolute=abs)


def draw(count, seed, places=36):
    """Samples whose values follow their features, with noise that is skew."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(count, 4, generator=generator).double()
    noise = torch.rand(count, places, 3, generator=generator).double()**3
    values = 2 * features[:, None, :3].flip(2) + noise
    weight = torch.rand(count, places, generator=generator).double()
    weight[weight < 0.3] = 0
    return MaskedTargets(values, weight, features, features[:, :3])


def naive_error(targets, guess, criterion):
    """Mean over all places and channels that count; guess (N, C)."""
    error = ERRORS[criterion](
        targets.values - torch.as_tensor(np.asarray(guess))[:, None])
    return float((targets.weight[..., None] * error).sum()
                 / targets.weight.sum() / 3)


def floors(fit, held_out, criterion):
    guesses = fit_guesses([fit], criterion)
    count = 3 * float(held_out.weight.sum())
    return {name: error / count
            for name, error in guess_errors(held_out, guesses).items()}


def naive_median(values, weight):
    """The smallest value that half of the weight does not exceed."""
    for value in sorted(values):
        if weight[values <= value].sum() >= weight.sum() / 2:
            return value


@pytest.mark.parametrize('criterion', ERRORS)
def test_floors_are_those_of_loops(criterion):
    fit, held_out = draw(40, 0), draw(7, 1)
    found = floors(fit, held_out, criterion)

    def best(values, weight):
        if criterion == 'squared':
            return (values * weight).sum() / weight.sum()
        return naive_median(values, weight)

    values, weight = fit.values.numpy(), fit.weight.numpy()
    constant = [best(values[..., channel].ravel(), weight.ravel())
                for channel in range(3)]
    assert found['constant'] == pytest.approx(
        naive_error(held_out, [constant] * 7, criterion), rel=1e-6)
    own = [[best(held_out.values[sample, :, channel].numpy(),
                 held_out.weight[sample].numpy()) for channel in range(3)]
           for sample in range(7)]
    name = 'own_mean' if criterion == 'squared' else 'own_median'
    assert found[name] == pytest.approx(
        naive_error(held_out, own, criterion), rel=1e-6)
    assert found['median_patch'] == pytest.approx(
        naive_error(held_out, held_out.guess, criterion), rel=1e-6)
    # One row per place, without any sum per sample.
    rows = np.repeat(fit.features.numpy(), values.shape[1], axis=0)
    guess = np.empty((7, 3))
    for channel in range(3):
        line = LinearRegression().fit(
            rows, values[..., channel].ravel(), sample_weight=weight.ravel())
        coefficients = np.append(line.coef_, line.intercept_)
        if criterion == 'absolute':
            def total(line, channel=channel):
                error = values[..., channel].ravel() - rows @ line[:-1] \
                    - line[-1]
                return (weight.ravel() * np.abs(error)).sum()
            coefficients = minimize(
                total, coefficients, method='Powell',
                options=dict(xtol=1e-6, ftol=1e-10, maxiter=20000)).x
        guess[:, channel] = held_out.features.numpy() @ coefficients[:-1] \
            + coefficients[-1]
    assert found['color'] == pytest.approx(
        naive_error(held_out, guess, criterion), rel=2e-3)
    assert found[name] < found['color'] < found['constant']


def test_places_without_weight_change_nothing():
    fit = draw(6, 0)
    thin = thin_places(fit, 1000, torch.Generator())
    assert sum(part.weight.shape[1] for part in thin) == int(
        (fit.weight > 0).sum())
    for criterion in ERRORS:
        whole, fewer = fit_guesses([fit], criterion), fit_guesses(
            thin, criterion)
        torch.testing.assert_close(whole.constant, fewer.constant)
        torch.testing.assert_close(whole.line, fewer.line)


def test_few_places_are_drawn_from_those_that_count():
    fit = draw(3, 0)
    for sample, part in enumerate(thin_places(
            fit, 5, torch.Generator().manual_seed(0))):
        assert part.values.shape == (1, 5, 3)
        assert (part.weight > 0).all()
        known = {tuple(row) for row in fit.values[sample].tolist()}
        assert {tuple(row) for row in part.values[0].tolist()} <= known
        assert torch.equal(part.features[0], fit.features[sample])


@pytest.mark.parametrize('criterion', ERRORS)
def test_a_thinned_sample_counts_as_all_of_its_places(criterion):
    generator = torch.Generator().manual_seed(0)
    weight = 0.5 + torch.rand(1, 1000, generator=generator)
    bags = [MaskedTargets(torch.zeros(1, 30, 2), torch.ones(1, 30)),
            MaskedTargets(torch.zeros(1, 50, 2), torch.ones(1, 50)),
            MaskedTargets(torch.ones(1, 1000, 2), weight)]
    thin = [part for bag in bags for part in thin_places(bag, 20, generator)]
    for bag, part in zip(bags, thin, strict=True):
        assert part.weight.shape == (1, 20)
        assert float(part.weight.sum()) == pytest.approx(
            float(bag.weight.sum()), rel=1e-5)
    assert float(thin[2].weight.max() / thin[2].weight.min()) > 2
    torch.testing.assert_close(fit_guesses(thin, criterion).constant,
                               fit_guesses(bags, criterion).constant)


@pytest.mark.parametrize('share', [.3, .55, .6, .8])
def test_the_absolute_line_is_the_best_and_never_above_the_constant(share):
    """Where many places are equal, as those of a background."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(*shape, generator=generator).double()

    values = noise(25, 40, 2).abs() + noise(25, 1, 2)
    blank = torch.rand(25, 40, 1, generator=generator) < (
        share + .1 * noise(25, 1, 1))
    values = torch.where(blank, -1.0, values)
    features = torch.cat([values.mean(dim=1) + .02 * noise(25, 2),
                          values.std(dim=1)], dim=1)
    fit = MaskedTargets(values, torch.ones(25, 40), features)
    guesses = fit_guesses([fit], 'absolute')
    rows = np.insert(np.repeat(features.numpy(), 40, axis=0), 4, 1, axis=1)
    for channel in range(2):
        truth = values[..., channel].numpy().ravel()
        # Least absolute deviations as a linear program.
        best = linprog(
            np.repeat([0, 1], [5, 2000]), A_eq=np.hstack(
                [rows, np.eye(1000), -np.eye(1000)]), b_eq=truth,
            bounds=[(None, None)] * 5 + [(0, None)] * 2000).fun
        found = np.abs(truth - rows @ guesses.line[:, channel].numpy()).sum()
        constant = np.abs(truth - float(guesses.constant[channel])).sum()
        assert found == pytest.approx(best, rel=5e-4)
        assert found <= constant * (1 + 1e-9)


def test_a_prediction_counts_where_the_weight_does():
    targets = draw(2, 0)
    prediction = targets.values + 2
    assert prediction_error(prediction, targets, 'squared') == pytest.approx(
        12 * float(targets.weight.sum()))
    assert prediction_error(prediction, targets, 'absolute') == pytest.approx(
        6 * float(targets.weight.sum()))


def test_colour_of_what_is_visible():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 6, 6, generator=generator)
    mask = (torch.rand(2, 1, 3, 3, generator=generator) > 0.5).float()
    found = visible_color(images, mask)
    for index in range(2):
        pixels = np.array([
            images[index, :, row, column].tolist()
            for row in range(6) for column in range(6)
            if mask[index, 0, row // 2, column // 2] == 0])
        assert found[index].tolist() == pytest.approx(
            [*pixels.mean(axis=0), *pixels.std(axis=0)], rel=1e-6)


def test_nothing_to_guess_is_an_error():
    targets = draw(2, 0)
    assert weighted_median(targets.values[0], torch.zeros(36)).tolist() == [
        0, 0, 0]
    with pytest.raises(ValueError, match='no place of the 2 samples'):
        fit_guesses([targets._replace(weight=0 * targets.weight)], 'squared')
