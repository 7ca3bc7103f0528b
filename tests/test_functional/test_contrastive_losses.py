"""Contrast with a batch and with a queue against loops."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmmedmask.functional.contrastive_losses import info_nce, queue_contrast

from .naive_concepts import contrast as naive_contrast


def vectors(count, dims):
    return torch.randn(count, dims, dtype=torch.float64)


@pytest.mark.parametrize('temperature', [.07, 1.0])
def test_contrast_equals_loops(temperature):
    image, genes = vectors(6, 4), vectors(6, 4)
    similarity = [[float(F.cosine_similarity(a, b, dim=0)) / temperature
                   for b in genes] for a in image]
    total = 0.0
    for rows in (similarity, list(zip(*similarity, strict=True))):
        for i, row in enumerate(rows):
            total -= row[i] - math.log(sum(map(math.exp, row)))
    assert abs(float(info_nce(image, genes, temperature)) - total / 12) < 1e-10


def test_contrast_stays_in_float32_under_autocast():
    halves = torch.randn(9, 64), torch.randn(9, 64)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        reduced = info_nce(*halves)
    assert reduced.dtype == torch.float32
    assert torch.equal(reduced, info_nce(*halves))


def test_halves_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r'shape \(9, 2\), got \(4, 2\)'):
        info_nce(torch.ones(9, 2), torch.ones(4, 2))


@pytest.mark.parametrize('temperature', [.07, .2, 1.])
def test_contrast_with_a_queue_is_that_of_loops(temperature):
    query, key, queue = (
        F.normalize(torch.randn(count, 3, dtype=torch.float64), dim=1)
        for count in (4, 4, 7))
    losses = queue_contrast(query, key, queue, temperature)
    for index in range(4):
        want = naive_contrast(query[index].numpy(), key[index].numpy(),
                              queue.numpy(), temperature)
        assert float(losses[index]) == pytest.approx(want, abs=1e-12)
