"""Clusters of correlated genes against a naive k-means, and as a file."""

import itertools

import numpy as np
import pytest

from mmmedmask.apis.gene_clusters import cluster_genes


def draw(sizes=(4, 3, 2), patients=40, noise=.3):
    """Genes that follow a hidden activity per set, in a random order."""
    random = np.random.default_rng(0)
    owner = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    hidden = random.standard_normal((patients, len(sizes)))
    values = hidden[:, owner] + noise * random.standard_normal(
        (patients, len(owner)))
    # Neither the mean nor the scale of a gene matters.
    scale = random.uniform(.1, 10, len(owner))
    return values * scale + random.normal(0, 5, len(owner)), owner


def test_finds_what_goes_up_and_down_together():
    values, owner = draw()
    sets = cluster_genes(values, 3)
    assert sorted(gene for genes in sets for gene in genes) == list(range(9))
    assert sets == sorted(np.flatnonzero(owner == number).tolist()
                          for number in range(3))


def test_is_the_best_of_all_partitions():
    """Of six genes into two sets: least sum of 1 - r to a set's centre."""
    values, _ = draw((3, 3), noise=1.5)
    correlations = np.corrcoef(values.T)

    def cost(genes):
        # Squared distances in a set: |a - b|^2 = 2 - 2 r.
        return sum(1 - correlations[a, b] for a in genes
                   for b in genes) / len(genes)

    parts = [([*one], [gene for gene in range(6) if gene not in one])
             for size in range(1, 4)
             for one in itertools.combinations(range(6), size)]
    best = min(parts, key=lambda part: sum(map(cost, part)))
    assert cluster_genes(values, 2) == sorted(map(sorted, best))


def test_genes_that_never_change_make_no_set_of_their_own():
    """Of .1 everywhere, rounding leaves other differences than 0."""
    values, owner = draw()
    constant = np.full((len(values), 3), .1)
    assert (constant - constant.mean(axis=0)).any()
    sets = cluster_genes(np.hstack([values, constant]), 3)
    assert [[gene for gene in genes if gene < 9] for genes in sets] == sorted(
        np.flatnonzero(owner == number).tolist() for number in range(3))


@pytest.mark.parametrize(('values', 'number', 'message'), [
    (np.zeros((2, 4)), 2, r'at least 3 patients, got \(2, 4\)'),
    (np.full((3, 4), np.nan), 2, '12 of 12 values are not finite'),
    (np.zeros((3, 4)), 5, r'num_sets must be in \[1, 4\], got 5')])
def test_refuses(values, number, message):
    with pytest.raises(ValueError, match=message):
        cluster_genes(values, number)
