"""Heads of masked baselines whose target leaves the stain out."""

import itertools

import pytest
import torch
from mmpretrain.registry import MODELS

import mmmedmask.models.layers  # noqa: F401 (registers the heads)

SIZE, PATCH = 16, 8


def naive_target(images, side=PATCH):
    """Every patch and channel by itself."""
    target = torch.empty_like(images)
    for top, left in itertools.product(*(
            range(0, size, side) for size in images.shape[2:])):
        place = ..., slice(top, top + side), slice(left, left + side)
        variance, mean = torch.var_mean(images[place], (2, 3), keepdim=True)
        target[place] = (images[place] - mean) / (variance + .01)**.5
    return target


def naive_loss(prediction, images, mask):
    """Mean squared error over the masked patches (B, rows, columns)."""
    where = mask.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    error = (prediction - naive_target(images))**2
    return float(error.mean(dim=1)[where > 0].mean())


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
