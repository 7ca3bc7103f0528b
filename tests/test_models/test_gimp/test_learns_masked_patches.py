"""Check 25: masked patches are learned from neighbours, and not without.

Bags are AR(1) sequences. Without the convolution of the values all masked
patches of a bag are predicted alike, so that no training gets below the best
constant of each bag, which is its median.
"""

import pytest
import torch

from mmmedmask.models.gimp import GiMP

DIMS, LENGTH, CORRELATION = 4, 96, .95


def sequences(count, generator):
    """AR(1) sequences of variance 1, (B, N, D), and masks of a half."""
    noise = torch.randn(count, LENGTH, DIMS, generator=generator)
    steps = [noise[:, 0]]
    for place in range(1, LENGTH):
        steps.append(CORRELATION * steps[-1] +
                     (1 - CORRELATION**2)**.5 * noise[:, place])
    order = torch.rand(count, LENGTH, generator=generator).argsort(dim=1)
    return torch.stack(steps, dim=1), order < LENGTH // 2


def floor(patches, mask):
    """Mean absolute error of the best constant of each bag and dimension."""
    errors = []
    for bag, flags in zip(patches, mask, strict=True):
        masked = bag[flags]
        errors.append((masked - masked.median(dim=0).values).abs())
    return torch.cat(errors).mean()


@pytest.mark.parametrize('conv_kernel', [9, 0])
def test_neighbours_tell_masked_patches_through_the_convolution(conv_kernel):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = GiMP(
        aggregator=dict(
            type='mmmedmask.NystromAggregator', in_dims=DIMS, embed_dims=16,
            num_heads=2, num_landmarks=8, conv_kernel=conv_kernel),
        mpm_head=dict(type='mmmedmask.MPMHead'))
    model.init_weights()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    shares = []
    for _ in range(120):
        patches, mask = sequences(8, generator)
        loss = model.loss(
            dict(patches=patches, valid=None, mask=mask, coords=None,
                 has_patches=torch.ones(8, dtype=torch.bool)), [])['loss_rec']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        shares.append(loss.item() / floor(patches, mask).item())
    assert shares[0] > 1
    last = sum(shares[-10:]) / 10
    if conv_kernel:
        # Neighbours at both sides would allow about .35.
        assert last < .75
    else:
        assert min(shares) > 1
        assert last < shares[0]
