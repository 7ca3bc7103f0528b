"""Convolution along tokens against loops."""

from itertools import product

import pytest
import torch

from mmmedmask.functional import token_convolution
from mmmedmask.functional.token_convolution import (
    convolve_tokens,
    convolve_tokens_,
)

DOUBLE = torch.float64


def naive_convolution(value, weight, runs):
    output, size = torch.zeros_like(value), weight.shape[1]
    for start, stop in runs:
        for i, tap in product(range(start, stop), range(size)):
            j = i + tap - size // 2
            if start <= j < stop:
                output[i] += weight[:, tap, None] * value[j]
    return output


@pytest.mark.parametrize('size', [1, 3, 9])
@pytest.mark.parametrize('runs', [
    [(0, 23)], [(1, 23)], [(1, 8), (8, 10), (11, 23)], [(2, 3)], []])
def test_equals_loops_with_gradients(monkeypatch, size, runs):
    """Over the seams of blocks and chunks; zero where no run is."""
    monkeypatch.setattr(token_convolution, 'BLOCK', 4)
    monkeypatch.setattr(token_convolution, 'CHUNK', 8)
    value = torch.randn(23, 2, 3, dtype=DOUBLE, requires_grad=True)
    weight = torch.randn(2, size, dtype=DOUBLE, requires_grad=True)
    want = naive_convolution(value, weight, runs)
    got = convolve_tokens(value, weight, runs)
    slope = torch.randn_like(got)
    assert torch.allclose(got, want, rtol=0, atol=1e-13)
    if runs:
        for one, other in zip(
                *(torch.autograd.grad((x * slope).sum(), (value, weight))
                  for x in (got, want)), strict=True):
            assert torch.allclose(one, other, rtol=0, atol=1e-12)
    with torch.no_grad():
        assert torch.equal(convolve_tokens_(value.clone(), weight, runs), got)
