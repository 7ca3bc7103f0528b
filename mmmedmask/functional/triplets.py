"""Triplets of patients, and which to take: equation 4 of GiMP (MICCAI 2023).

An anchor should be nearer to a patient of its class than to one of another,
by a margin. A patient is the image's vector beside the genes' vector, so that
the squared distance is the sum of the halves' squared distances.

``image`` (B, d) are vectors of slides, ``genes`` (B, d') of the same patients'
genes. Losses are computed in float32 or, given that, in float64, also under
autocast. ``labels`` (B, ), int64, are classes; a patient with a negative one
is in no triplet.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmedmask.util.checks import check_choice

NORMALIZATIONS = ('none', 'each')
MININGS = ('all', 'batch_hard', 'semi_hard', 'random')


class Triplets(NamedTuple):
    """Numbers of the patients of each triplet, shape (T, ), int64.

    Example:
        >>> Triplets(*torch.tensor([[0, 1], [1, 0], [2, 2]])).negative
        tensor([2, 2])
    """

    anchor: Tensor
    positive: Tensor
    negative: Tensor


class TripletLoss(NamedTuple):
    """The loss of a batch, and scalars that tell whether it does anything.

    Attributes:
        loss: Mean hinge of the active triplets, 0 if none is active; it
            alone has a graph, always.
        active_share: Share of triplets whose hinge is above 0.
        num_triplets: Triplets looked at.
        positive_image: Mean squared distance of the image halves over all
            pairs of one class; 0 without pairs, as all that follow.
        negative_image: The same over all pairs of different classes.
        positive_genes: As ``positive_image``, of the gene halves.
        negative_genes: As ``negative_image``, of the gene halves.

    Example:
        >>> vectors = torch.tensor([[0.], [1.], [9.]])
        >>> result = triplet_loss(vectors, None, torch.tensor([0, 0, 1]))
        >>> result.num_triplets, result.active_share
        (tensor(2), tensor(0.))
    """

    loss: Tensor
    active_share: Tensor
    num_triplets: Tensor
    positive_image: Tensor
    negative_image: Tensor
    positive_genes: Tensor
    negative_genes: Tensor


def squared_distances(vectors: Tensor) -> Tensor:
    """Squared Euclidean distances (B, B) of vectors (B, d), by differences.

    The products of a Gram matrix are faster, but lose small distances of
    long vectors; batches of patients are small.

    Example:
        >>> squared_distances(torch.tensor([[0., 0.], [3., 4.]]))
        tensor([[ 0., 25.],
                [25.,  0.]])
    """
    return (vectors[:, None] - vectors).square().sum(dim=-1)


def _class_pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of two patients of one class, and of two classes, (B, B), bool."""
    known = (labels >= 0)[:, None] & (labels >= 0)
    same = labels[:, None] == labels
    oneself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return known & same & ~oneself, known & ~same


def mine_triplets(mining: str, distances: Tensor | None, labels: Tensor,
                  uniform: Tensor | None = None) -> Triplets:
    """Choose triplets of patients.

    Args:
        mining: ``'all'``: every anchor with every positive and every
            negative. ``'batch_hard'``: each anchor with its farthest positive
            and its nearest negative. ``'semi_hard'``: each anchor and
            positive with the nearest negative that is farther, or, where
            none is, with the farthest one. ``'random'``: each anchor with
            one positive and one negative by chance.
        distances: Squared distances, shape (B, B), for the hard ones.
        uniform: Numbers in [0, 1) that choose the positive and the negative
            of each patient in ``'random'``, shape (B, 2).

    Example:
        >>> distances = squared_distances(torch.arange(4.)[:, None])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> mine_triplets('batch_hard', distances, labels).negative
        tensor([2, 2, 1, 1])
    """
    check_choice('mining', mining, MININGS)
    positive, negative = _class_pairs(labels)
    if mining == 'all':
        valid = positive[:, :, None] & negative[:, None]
        return Triplets(*valid.nonzero().unbind(dim=1))
    if mining == 'semi_hard':
        anchor, other = (positive & negative.any(dim=1)[:, None]
                         ).nonzero().unbind(dim=1)
        rows, allowed = distances[anchor], negative[anchor]
        farther = allowed & (rows > distances[anchor, other][:, None])
        nearest = rows.masked_fill(~farther, torch.inf).argmin(dim=1)
        farthest = rows.masked_fill(~allowed, -torch.inf).argmax(dim=1)
        return Triplets(anchor, other,
                        torch.where(farther.any(dim=1), nearest, farthest))
    anchor = (positive.any(dim=1) & negative.any(dim=1)).nonzero()[:, 0]
    if mining == 'batch_hard':
        chosen = (distances.masked_fill(~positive, -torch.inf).argmax(dim=1),
                  distances.masked_fill(~negative, torch.inf).argmin(dim=1))
    else:
        chosen = (_choose(positive, uniform[:, 0].to(labels.device)),
                  _choose(negative, uniform[:, 1].to(labels.device)))
    return Triplets(anchor, *(other[anchor] for other in chosen))


def _choose(pairs: Tensor, draw: Tensor) -> Tensor:
    """One of the pairs in each row, by a number in [0, 1)."""
    rank = pairs.cumsum(dim=1)
    # Rounding may bring the largest draws to the count itself.
    wanted = torch.minimum((draw * rank[:, -1]).long() + 1, rank[:, -1])
    return (pairs & (rank == wanted[:, None])).int().argmax(dim=1)


def triplet_loss(image: Tensor, genes: Tensor | None, labels: Tensor,
                 margin: float = 0.8, mining: str = 'all',
                 normalize: str = 'none',
                 uniform: Tensor | None = None) -> TripletLoss:
    """Eq. 4 over the triplets of a batch, averaged over the active ones.

    ``max(|x - x+|^2 + margin - |x - x-|^2, 0)`` with x the image's vector
    beside the genes'. Most triplets are soon satisfied; averaged over all of
    them, the gradient of the rest would vanish. A ValueError if ``mining`` or
    ``normalize`` is unknown, or draws are missing.

    Args:
        genes: None: images alone.
        margin: Margin of the squared distances, delta.
        mining: See :func:`mine_triplets`, as of ``uniform``.
        normalize: ``'none'``, or ``'each'`` to bring each half to length 1:
            squared distances are then at most 8.

    Example:
        >>> vectors = torch.tensor([[0.], [1.], [1.5]])
        >>> triplet_loss(vectors, None, torch.tensor([0, 0, 1])).loss
        tensor(1.5500)
    """
    check_choice('normalize', normalize, NORMALIZATIONS)
    if mining == 'random' and uniform is None:
        raise ValueError("mining='random' needs uniform draws of shape "
                         f'({len(labels)}, 2), got None')
    with torch.autocast(image.device.type, enabled=False):
        halves = [_prepared(half, normalize) for half in (image, genes)
                  if half is not None]
        by_half = [squared_distances(half) for half in halves]
        distances = sum(by_half)
        triplets = mine_triplets(mining, distances.detach(), labels, uniform)
        hinges = (distances[triplets.anchor, triplets.positive] + margin -
                  distances[triplets.anchor, triplets.negative]).clamp(min=0)
        active = (hinges > 0).sum()
        loss = hinges.sum() / active.clamp(min=1)
        means = [_mean_over(half.detach(), pairs)
                 for half in by_half for pairs in _class_pairs(labels)]
        means += [torch.zeros_like(loss.detach())] * (4 - len(means))
        total = torch.tensor(len(hinges), device=loss.device)
        share = (active / total.clamp(min=1)).to(loss.dtype)
    return TripletLoss(loss, share, total, *means)


def _prepared(half: Tensor, normalize: str) -> Tensor:
    half = half.to(torch.promote_types(half.dtype, torch.float32))
    return F.normalize(half, dim=1) if normalize == 'each' else half


def _mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values, 0 if there are none."""
    return values.where(chosen, 0).sum() / chosen.sum().clamp(min=1)
