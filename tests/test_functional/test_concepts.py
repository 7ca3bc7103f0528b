"""Concepts: clusters of a feature map, carried to views and pooled there."""

import numpy as np
import pytest
import torch

from mmmedmask.functional.concepts import (
    carry_labels,
    cosine_kmeans,
    overlap_matrix,
    pool_labels,
    random_cells,
)

from . import naive_concepts as naive


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(seed))


def boxes(count, seed=0, outside=0.):
    """Random boxes with flips on both axes; some reach out by a share."""
    uniform = torch.rand(count, 6, dtype=torch.float64,
                         generator=torch.Generator().manual_seed(seed))
    theta = torch.zeros(count, 3, 3, dtype=torch.float64)
    theta[:, 2, 2] = 1
    for axis in (0, 1):
        scale = .1 + .9 * uniform[:, axis]
        free = 1 - scale + outside
        theta[:, axis, axis] = scale * (
            1 - 2 * (uniform[:, 2 + axis] < .5).double())
        theta[:, axis, 2] = free * (2 * uniform[:, 4 + axis] - 1)
    return theta


def assert_kmeans(features, start, iterations):
    """Labels of images, which are those that loops find."""
    labels, centroids = cosine_kmeans(features, start, iterations)
    for one, first, found, centres in zip(features, start, labels, centroids,
                                          strict=True):
        want, want_centres = naive.kmeans(one.numpy(), first.tolist(),
                                          iterations)
        assert found.tolist() == want
        np.testing.assert_allclose(centres, want_centres, atol=1e-12)
    return labels


@pytest.mark.parametrize('iterations', [1, 2, 10])
@pytest.mark.parametrize(('cells', 'channels', 'count'), [
    (12, 3, 2), (20, 5, 8), (6, 4, 6), (9, 2, 1)])
def test_kmeans_is_that_of_loops(cells, channels, count, iterations):
    assert_kmeans(random(4, cells, channels),
                  random_cells(random(4, cells, seed=1), count), iterations)


def test_empty_clusters_take_what_fits_worst():
    """Three clusters start in equal features; two of them are empty."""
    features = torch.tensor([[
        [1., 0, 0], [2., 0, 0], [3., 0, 0], [1, .1, 0], [0, 1., .2],
        [.1, .2, 1.]]], dtype=torch.float64).repeat(2, 1, 1)
    features[1] = features[1].flip(0)
    start = torch.tensor([[0, 1, 2], [5, 4, 3]])
    for labels in assert_kmeans(features, start, 3):
        assert len(labels.unique()) == 3


def test_equal_features_are_one_concept():
    """What no label can tell apart leaves clusters empty, not NaN."""
    labels, centroids = cosine_kmeans(
        torch.ones(1, 9, 4), torch.tensor([[3, 1, 7]]), 10)
    assert labels.tolist() == [[0] * 9]
    assert centroids.isfinite().all()
    assert torch.equal(
        cosine_kmeans(torch.zeros(1, 9, 4), torch.tensor([[3, 1]]), 2)[0],
        torch.zeros(1, 9, dtype=torch.long))


def test_kmeans_keeps_its_precision_under_autocast():
    features, start = random(2, 30, 8).float(), random_cells(random(2, 30), 4)
    want = cosine_kmeans(features, start, 5)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = cosine_kmeans(features, start, 5)
    assert got[1].dtype == torch.float32
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1], want[1])


def test_random_cells_are_different_and_all_are_drawn():
    cells = random_cells(torch.rand(500, 6), 3)
    assert all(len({*row}) == 3 for row in cells.tolist())
    assert cells.unique().tolist() == list(range(6))
    with pytest.raises(ValueError, match=r'cells must be in \[1, 6\], got 7'):
        random_cells(torch.rand(2, 6), 7)
    with pytest.raises(ValueError, match='at least 1, got 0'):
        cosine_kmeans(random(1, 4, 2), torch.tensor([[0, 1]]), 0)


@pytest.mark.parametrize('outside', [0., .5])
@pytest.mark.parametrize(('grid', 'size'), [
    ((14, 14), (7, 7)), ((5, 8), (3, 4)), ((4, 3), (9, 7))])
def test_labels_are_carried_as_loops_do(grid, size, outside):
    labels = torch.randint(
        4, (8, *grid), generator=torch.Generator().manual_seed(3))
    theta = boxes(8, outside=outside)
    carried = carry_labels(labels, 4, theta, size)
    for image in range(8):
        want = naive.carry(labels[image].numpy(), 4, theta[image].numpy(),
                           size)
        assert carried[image].tolist() == want.tolist()
    assert bool((carried == -1).any()) == (outside > 0)
    # The matrices of a training step have single precision.
    single = carry_labels(labels, 4, theta.float(), size)
    assert (single != carried).float().mean() < .01


def test_of_equal_shares_the_lowest_label_wins():
    """Also where rounding makes one share larger than the other."""
    labels = torch.tensor([[[2, 1], [1, 2]]]).repeat(50, 1, 1)
    theta = torch.eye(3).repeat(50, 1, 1)
    theta[:, 0, 0] += 1e-7 * torch.arange(50)
    theta[:, 1, 2] += 1e-8 * torch.arange(50)
    assert carry_labels(labels, 3, theta, (1, 1)).unique().tolist() == [1]


def test_overlaps_sum_to_what_lies_inside():
    scale = torch.tensor([.3, -.7, 1.5], dtype=torch.float64)
    shift = torch.tensor([.2, .3, 0.], dtype=torch.float64)
    sums = overlap_matrix(scale, shift, 4, 6).sum(dim=2)
    torch.testing.assert_close(sums[:2], torch.ones_like(sums[:2]))
    # The view is 1.5 times as wide: a third of the outer cells is inside.
    torch.testing.assert_close(
        sums[2], torch.tensor([1 / 3, 1, 1, 1 / 3], dtype=torch.float64))


def test_pooling_is_that_of_loops():
    features = random(3, 5, 4, 6)
    labels = torch.randint(
        -1, 3, (3, 4, 6), generator=torch.Generator().manual_seed(1))
    labels[1][labels[1] == 2] = 0
    prototypes, present = pool_labels(features, labels, 4)
    for image in range(3):
        for label in range(4):
            want = naive.pool(features[image].numpy(), labels[image], label)
            assert bool(present[image, label]) == (want is not None)
            np.testing.assert_allclose(prototypes[image, label],
                                       0 if want is None else want, atol=1e-12)
    assert not present[1, 2]
    assert not present[:, 3].any()
