"""Floors of a loss against loops over pixels."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from mmmedmask.functional.loss_floors import (
    guess_loss,
    join_sums,
    loss_floors,
    target_sums,
)


def draw(count, seed):
    generator = torch.Generator().manual_seed(seed)
    color = torch.rand(count, 3, 1, 1, generator=generator)
    image = color + 0.2 * torch.rand(count, 3, 6, 6, generator=generator)
    weight = torch.rand(count, 1, 6, 6, generator=generator)
    mask = (torch.rand(count, 1, 6, 6, generator=generator) > 0.6).float()
    # The target's colour follows the image's, with noise.
    noise = torch.rand(count, 3, 6, 6, generator=generator)
    return 2 * image.flip(1) + noise, weight, image, mask


def naive_loss(target, weight, guess):
    error = counted = 0.0
    for image in range(len(target)):
        for channel in range(3):
            for row in range(6):
                for column in range(6):
                    share = float(weight[image, 0, row, column])
                    value = float(target[image, channel, row, column])
                    error += share * (value - guess[image][channel])**2
                    counted += share
    return error / counted


def naive_colors(target, weight):
    return [[
        float((target[image, channel] * weight[image, 0]).sum() /
              weight[image].sum()) for channel in range(3)
    ] for image in range(len(target))]


def test_floors_are_those_of_loops():
    fit, held_out = draw(40, 0), draw(7, 1)
    floors = loss_floors(target_sums(*fit), target_sums(*held_out))
    target, weight, image, mask = (value.double() for value in held_out)

    colors = np.array(naive_colors(fit[0].double(), fit[1].double()))
    shares = fit[1].double().sum(dim=(1, 2, 3)).numpy()
    constant = (colors * shares[:, None]).sum(axis=0) / shares.sum()
    assert floors['constant'] == pytest.approx(
        naive_loss(target, weight, [constant] * 7), rel=1e-6)

    own = naive_colors(target, weight)
    assert floors['own_mean'] == pytest.approx(
        naive_loss(target, weight, own), rel=1e-6)

    def visible(image, mask):
        rows = []
        for one, hidden in zip(image, mask, strict=True):
            pixels = one[:, hidden[0] == 0]
            rows.append([*pixels.mean(dim=1).tolist(),
                         *pixels.std(dim=1, correction=0).tolist()])
        return np.array(rows)

    line = LinearRegression().fit(
        visible(fit[2].double(), fit[3]), colors, sample_weight=shares)
    guess = line.predict(visible(image, mask))
    assert floors['color'] == pytest.approx(
        naive_loss(target, weight, guess), rel=1e-3)
    assert floors['own_mean'] < floors['color'] < floors['constant']


def test_batches_add_up():
    parts = draw(8, 0)
    whole = target_sums(*parts)
    halves = join_sums([target_sums(*(value[:4] for value in parts)),
                        target_sums(*(value[4:] for value in parts))])
    for one, other in zip(whole, halves, strict=True):
        torch.testing.assert_close(one, other)


def test_images_that_do_not_count_change_nothing():
    target, weight, image, mask = draw(6, 0)
    weight[3] = 0
    kept = [0, 1, 2, 4, 5]
    sums = target_sums(target, weight, image, mask)
    fewer = target_sums(*(value[kept]
                          for value in (target, weight, image, mask)))
    assert guess_loss(sums, torch.zeros(1, 3)) == pytest.approx(
        guess_loss(fewer, torch.zeros(1, 3)))
    for name, value in loss_floors(sums, sums).items():
        assert value == pytest.approx(loss_floors(fewer, fewer)[name])


def test_nothing_to_guess_is_an_error():
    target, weight, image, mask = draw(2, 0)
    empty = target_sums(target, 0 * weight, image, mask)
    full = target_sums(target, weight, image, mask)
    with pytest.raises(ValueError, match='no pixel of the 2 images of fit'):
        loss_floors(empty, full)
    with pytest.raises(ValueError, match='2 images of held_out'):
        loss_floors(full, empty)
