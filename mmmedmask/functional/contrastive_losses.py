"""Losses that contrast samples with others: InfoNCE, prototypes, queues.

``image`` (B, d) are vectors of slides, ``genes`` (B, d) of the same patients'
genes. ``info_nce`` and ``prototype_contrast`` are computed in float32 or,
given that, in float64, also under autocast.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmedmask.util.checks import check_shape


def _unit_rows(vectors: Tensor) -> Tensor:
    return F.normalize(
        vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=1)


def info_nce(image: Tensor, genes: Tensor, temperature: float | Tensor = 0.07,
             image_share: float = 0.5) -> Tensor:
    """Symmetric contrast: each slide finds its genes, and the other way.

    The mean of both cross-entropies of cosine similarities over the batch,
    van den Oord et al., arXiv 1807.03748, in the two-sided form of CLIP.

    It is log(B) for vectors that tell nothing.

    Args:
        temperature: Divides the similarities, above 0.
        image_share: Weight of slides that look for genes, in [0, 1]; the
            rest is that of genes that look for slides.

    Raises:
        ValueError: If the vectors' shapes differ.

    Example:
        >>> float(info_nce(torch.ones(4, 2), torch.ones(4, 2)).exp())
        4.0
    """
    check_shape('genes', genes, image.shape, 'that of image')
    with torch.autocast(image.device.type, enabled=False):
        image, genes = map(_unit_rows, (image, genes))
        logits = image @ genes.t() / temperature
        own = torch.arange(len(logits), device=logits.device)
        return (image_share * F.cross_entropy(logits, own) +
                (1 - image_share) * F.cross_entropy(logits.t(), own))


def sinkhorn(scores: Tensor, epsilon: float = 0.05,
             iterations: int = 3) -> Tensor:
    """Share samples among prototypes, so that each gets as much.

    Sinkhorn-Knopp steps on ``exp(scores / epsilon)``, as SwAV (Caron et al.,
    NeurIPS 2020) and MGCA assign samples; here in logarithms, which cannot
    overflow.

    The result (B, K) has no graph; rows sum to 1.

    Args:
        scores: Similarities, shape (B, K).
        epsilon: Divides the scores; smaller is harder.
        iterations: Of making columns, then rows, sum to the same.

    Example:
        >>> sinkhorn(torch.tensor([[1., 0.], [1., 0.]]))
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]])
    """
    logs = scores.detach() / epsilon
    for _ in range(iterations):
        logs = logs - logs.logsumexp(dim=0)
        logs = logs - logs.logsumexp(dim=1, keepdim=True)
    return logs.exp()


def prototype_contrast(image: Tensor, genes: Tensor, prototypes: Tensor,
                       temperature: float = 0.2, epsilon: float = 0.05,
                       iterations: int = 3) -> Tensor:
    """Each half predicts which prototypes the other half is assigned to.

    The cross-modal prototype alignment of MGCA (Wang et al., NeurIPS 2022),
    mean of both directions; all vectors are brought to length 1.

    Args:
        prototypes: Shape (K, d).
        temperature: Divides the similarities of the predictions.
        epsilon: See :func:`sinkhorn`, as for ``iterations``.

    Example:
        >>> same = torch.ones(4, 2)
        >>> prototype_contrast(same, same, torch.ones(3, 2)).exp()
        tensor(3.)
    """
    with torch.autocast(image.device.type, enabled=False):
        image, genes, prototypes = map(_unit_rows, (image, genes, prototypes))
        scores = [half @ prototypes.t() for half in (image, genes)]
        losses = [-(sinkhorn(theirs, epsilon, iterations) *
                    (own / temperature).log_softmax(dim=1)).sum(dim=1).mean()
                  for own, theirs in (scores, scores[::-1])]
        return sum(losses) / 2


def queue_contrast(query: Tensor, key: Tensor,
                   queue: Tensor, temperature: float) -> Tensor:
    """InfoNCE (N,) of queries, whose negatives are a queue (MoCo, Eq. 1).

    Args:
        query: Shape (N, D), of unit length.
        key: The positive of each query, shape (N, D), of unit length.
        queue: Negatives of all queries, shape (L, D).

    Example:
        >>> same = torch.tensor([[1., 0.]])
        >>> queue_contrast(same, same, same, temperature=1.).exp()
        tensor([2.])
    """
    positive = (query * key).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, query @ queue.T], dim=1) / temperature
    return logits.logsumexp(dim=1) - logits[:, 0]
