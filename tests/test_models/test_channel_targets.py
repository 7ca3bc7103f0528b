"""Heads of masked baselines whose target leaves the stain out."""

import itertools

import pytest
import torch
from mmpretrain.registry import MODELS

import mmmedmask.models.layers  # noqa: F401 (registers the heads)

SIZE, PATCH = 16, 8


def naive_target(images, side=PATCH):
    """Every patch and channel by itself, in Python floats."""
    target = torch.zeros_like(images)
    count, channels, height, width = images.shape
    for image, channel, top, left in itertools.product(
            range(count), range(channels), range(0, height, side),
            range(0, width, side)):
        place = (image, channel, slice(top, top + side),
                 slice(left, left + side))
        pixels = images[place].flatten().tolist()
        mean = sum(pixels) / len(pixels)
        variance = sum((pixel - mean)**2 for pixel in pixels) / (
            len(pixels) - 1)
        target[place] = (images[place] - mean) / (variance + .01)**.5
    return target


def naive_loss(prediction, images, mask):
    """Mean squared error over the masked patches (B, rows, columns)."""
    error = (prediction - naive_target(images))**2
    where = mask.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    return sum(
        float(error[image, :, row, column].sum())
        for image, row, column in where.nonzero().tolist()
    ) / (3 * int(where.sum()))


@pytest.fixture
def images():
    torch.manual_seed(0)
    return 3 * torch.rand(2, 3, SIZE, SIZE) + torch.tensor(
        [5., -2., 0.]).view(3, 1, 1)


@pytest.fixture
def mask():
    return torch.tensor([[[1, 0], [0, 1]], [[0, 1], [0, 0]]])


def build(kind, **options):
    return MODELS.build(dict(
        type=f'mmmedmask.{kind}', patch_size=PATCH, **options))


@pytest.mark.parametrize('kind', ['SparK', 'MAE'])
def test_loss_equals_the_naive_one(images, mask, kind):
    head = build(f'Channel{kind}Head', loss=dict(
        type='PixelReconstructionLoss', criterion='L2'))
    prediction = torch.randn_like(images)
    got = (head(prediction, images, (mask == 0)[:, None]) if kind == 'SparK'
           else head.loss(head.patchify(prediction), images, mask.flatten(1)))
    assert float(got) == pytest.approx(
        naive_loss(prediction, images, mask), rel=1e-4)
