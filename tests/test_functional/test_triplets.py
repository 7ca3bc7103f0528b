"""Triplets against loops and closed forms (checks 14, 15)."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from refusals import refuses

from mmmedmask.functional.randomness import per_sample_uniform
from mmmedmask.functional.triplets import (
    MININGS,
    mine_triplets,
    squared_distances,
    triplet_loss,
)

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 1, -1, -1])


def vectors(count, dims, scale=1.0):
    return (scale * torch.randn(count, dims, dtype=torch.float64)
            ).requires_grad_()


def distance(one, other):
    """Squared distance by a loop."""
    return sum((a - b)**2 for a, b in zip(
        one.tolist(), other.tolist(), strict=True))


def naive_triplets(labels):
    """All valid triplets, by loops."""
    labels = labels.tolist()
    return [(a, p, n)
            for a, p, n in itertools.product(range(len(labels)), repeat=3)
            if a != p and labels[a] == labels[p] != labels[n]
            and min(labels[a], labels[n]) >= 0]


def naive_loss(patients, triplets, margin=.8):
    """Mean of the active hinges, and their share."""
    hinges = [
        distance(patients[a], patients[p]) + margin -
        distance(patients[a], patients[n]) for a, p, n in triplets]
    active = [hinge for hinge in hinges if hinge > 0]
    return (sum(active) / len(active) if active else 0.0,
            len(active) / len(hinges))


@pytest.mark.parametrize(('anchor', 'positive', 'negative', 'want'), [
    ([1, 2], [1, 2], [1, 2], .8), ([1, 2], [1, 2], [2, 2], 0),
    ([1, 2], [1, 3], [1, 2], 1.8), ([1, 2], [1, 2], [1.5, 2], .55)])
def test_closed_forms(anchor, positive, negative, want):
    """Check 14: the anchor's own hinge, and its mean with the positive's."""
    image = torch.tensor([anchor, positive, negative], dtype=torch.float64)
    distances = squared_distances(image)
    hinge = (distances[0, 1] + .8 - distances[0, 2]).clamp(min=0)
    assert abs(hinge.item() - want) < 1e-6
    result = triplet_loss(image, None, torch.tensor([0, 0, 1]))
    loss, share = naive_loss(image, [(0, 1, 2), (1, 0, 2)])
    assert abs(result.loss.item() - loss) < 1e-6
    assert float(result.active_share) == share


@pytest.mark.parametrize('labels', [
    [0, 0, 1, 1], [0, 0, 0, 1], [0, 1, 2, 0, 1, 0, 0], [3, 3, 3]])
def test_all_triplets_are_listed_once(labels):
    labels = torch.tensor(labels)
    distances = torch.zeros(len(labels), len(labels))
    got = list(zip(*(one.tolist() for one in mine_triplets(
        'all', distances, labels)), strict=True))
    assert sorted(got) == naive_triplets(labels)
    counts = labels.bincount()
    assert len(got) == int((counts * (counts - 1) *
                            (len(labels) - counts)).sum())


@pytest.mark.parametrize('scale', [.1, .5, 3.0])
def test_loss_and_gradient_equal_loops(scale):
    image, genes = vectors(9, 5, scale), vectors(9, 3, scale)
    result = triplet_loss(image, genes, LABELS)
    patients = torch.cat([image, genes], dim=1)
    loss, share = naive_loss(patients, naive_triplets(LABELS))
    assert abs(result.loss.item() - loss) < 1e-12
    assert float(result.active_share) == pytest.approx(share)
    assert int(result.num_triplets) == len(naive_triplets(LABELS))
    result.loss.backward()
    active = [
        (patients[a] - patients[p]).square().sum() + .8 -
        (patients[a] - patients[n]).square().sum()
        for a, p, n in naive_triplets(LABELS)]
    active = torch.stack([hinge for hinge in active if hinge > 0]).mean()
    for half, gradient in zip((image, genes), torch.autograd.grad(
            active, (image, genes)), strict=True):
        assert (half.grad - gradient).abs().max() < 1e-12
    # What is watched, over the patients of a known class.
    known = range(7)
    for half, positive, negative in (
            (image, result.positive_image, result.negative_image),
            (genes, result.positive_genes, result.negative_genes)):
        for same, got in ((True, positive), (False, negative)):
            want = [distance(half[i], half[j])
                    for i, j in itertools.permutations(known, 2)
                    if (LABELS[i] == LABELS[j]) == same]
            assert got.item() == pytest.approx(sum(want) / len(want))
            assert not got.requires_grad


def test_unit_halves():
    image, genes = vectors(9, 5, 20.0), vectors(9, 3, .01)
    result = triplet_loss(image, genes, LABELS, normalize='each')
    unit = torch.cat([F.normalize(image), F.normalize(genes)], dim=1)
    want, _ = naive_loss(unit, naive_triplets(LABELS))
    assert abs(result.loss.item() - want) < 1e-12
    assert float(squared_distances(unit).max()) <= 8


def test_genes_only_move_the_margin():
    """Check 15: a hinge of image distances with a margin per triplet."""
    image, genes = vectors(7, 5), vectors(7, 3).detach()
    labels = LABELS[:7]
    got = triplet_loss(image, genes, labels).loss
    hinges = []
    for a, p, n in naive_triplets(labels):
        margin = (.8 + distance(genes[a], genes[p]) -
                  distance(genes[a], genes[n]))
        hinges.append(max(distance(image[a], image[p]) + margin -
                          distance(image[a], image[n]), 0))
    active = [hinge for hinge in hinges if hinge > 0]
    assert abs(got.item() - sum(active) / len(active)) < 1e-6


@pytest.mark.parametrize('mining', MININGS)
@pytest.mark.parametrize('labels', [[1, 1, 1, 1], [0, 1, 2, 3],
                                    [-1, -1, 0, 0]])
def test_no_triplets_give_zero_with_a_graph(labels, mining):
    image = vectors(4, 3)
    result = triplet_loss(image, None, torch.tensor(labels), mining=mining,
                          uniform=torch.rand(4, 2))
    assert result.loss.item() == float(result.active_share) == 0
    assert int(result.num_triplets) == 0
    result.loss.backward()
    assert not image.grad.any()
    image = torch.tensor([[0.], [0.], [9.], [9.]], requires_grad=True)
    satisfied = triplet_loss(image, None, torch.tensor([0, 0, 1, 1]), .8,
                             mining, uniform=torch.rand(4, 2))
    assert satisfied.loss.item() == float(satisfied.active_share) == 0
    satisfied.loss.backward()
    assert not image.grad.any()


def as_dict(triplets):
    return {(a, p): n for a, p, n in zip(
        *(one.tolist() for one in triplets), strict=True)}


def test_hardest_of_each_anchor():
    patients = vectors(9, 4)
    got = mine_triplets('batch_hard', squared_distances(patients), LABELS)
    want = {}
    for a in sorted({a for a, _, _ in naive_triplets(LABELS)}):
        far = [distance(patients[a], other) for other in patients]
        own = [one for one in naive_triplets(LABELS) if one[0] == a]
        want[a, max((p for _, p, _ in own), key=far.__getitem__)] = min(
            (n for _, _, n in own), key=far.__getitem__)
    assert as_dict(got) == want
    # The patient who is alone in his class is not an anchor.
    assert got.anchor.tolist() == [0, 1, 2, 4, 5, 6]


@pytest.mark.parametrize('scale', [.3, 3.0])
def test_semi_hard_negatives(scale):
    """Classes that overlap, so that both rules are used."""
    patients = vectors(9, 2, scale)
    got = as_dict(mine_triplets(
        'semi_hard', squared_distances(patients), LABELS))
    fallbacks = 0
    for a, p in {(a, p) for a, p, _ in naive_triplets(LABELS)}:
        negatives = {
            n: distance(patients[a], patients[n])
            for one, other, n in naive_triplets(LABELS) if (one, other) ==
            (a, p)}
        farther = {n: far for n, far in negatives.items()
                   if far > distance(patients[a], patients[p])}
        fallbacks += not farther
        want = min(farther, key=farther.get) if farther else max(
            negatives, key=negatives.get)
        assert got.pop((a, p)) == want
    assert not got
    assert fallbacks


def test_random_triplets_are_uniform_and_follow_their_draws():
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    seen = torch.zeros(7, 7, 7)
    draws = 3000
    for step in range(draws):
        seen[mine_triplets('random', None, labels, per_sample_uniform(
            0, step, range(7), 2))] += 1
    valid = torch.zeros(7, 7, 7, dtype=torch.bool)
    for triplet in naive_triplets(labels):
        valid[triplet] = True
    assert not seen[~valid].any()
    for anchor in range(7):
        share = seen[anchor][valid[anchor]] / draws
        mean = 1 / len(share)
        assert (share - mean).abs().max() < 5 * math.sqrt(
            mean * (1 - mean) / draws)


@pytest.mark.parametrize('draw', [0.0, math.nextafter(1, 0)])
def test_ends_of_the_draws(draw):
    labels = torch.tensor([0, 0, 0, 1, 1])
    uniform = torch.full((5, 2), draw, dtype=torch.float64)
    for dtype in (torch.float64, torch.float32):
        triplets = mine_triplets('random', None, labels, uniform.to(dtype))
        want = ([1, 0, 0, 4, 3], [3, 3, 3, 0, 0]) if not draw else (
            [2, 2, 1, 4, 3], [4, 4, 4, 2, 2])
        assert triplets.positive.tolist() == want[0]
        assert triplets.negative.tolist() == want[1]


@pytest.mark.parametrize('mining', MININGS)
def test_mined_loss_is_that_of_its_triplets(mining):
    image, genes = vectors(9, 5), vectors(9, 3)
    uniform = torch.rand(9, 2, dtype=torch.float64)
    patients = torch.cat([image, genes], dim=1)
    triplets = mine_triplets(mining, squared_distances(patients), LABELS,
                             uniform)
    want, share = naive_loss(patients, list(zip(*triplets, strict=True)))
    got = triplet_loss(image, genes, LABELS, mining=mining, uniform=uniform)
    assert abs(got.loss.item() - want) < 1e-12
    assert float(got.active_share) == pytest.approx(share)


def test_loss_stays_in_float32_under_autocast():
    halves = torch.randn(9, 64), torch.randn(9, 64)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        reduced = triplet_loss(*halves, LABELS).loss
    assert reduced.dtype == torch.float32
    assert torch.equal(reduced, triplet_loss(*halves, LABELS).loss)


test_bad_arguments_are_refused_by_value = refuses(
    lambda call: call(torch.ones(9, 2)), [
    (lambda x: triplet_loss(x, None, LABELS, mining='hard'), "'hard'"),
    (lambda x: mine_triplets('easy', None, LABELS, x), "'easy'"),
    (lambda x: triplet_loss(x, None, LABELS, normalize='both'), "'both'"),
    (lambda x: triplet_loss(x, None, LABELS, mining='random'),
     r'\(9, 2\), got None')])
