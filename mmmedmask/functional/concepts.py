"""Concepts of ConCL: cluster a feature map, carry the clusters to views.

A label map holds the index of each cell's concept, in [0, K), or -1 where
there is none. Everything works on the whole batch at once.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmedmask.functional.warp import along_axes
from mmmedmask.util.checks import check_integer


def random_cells(uniform: Tensor, count: int) -> Tensor:
    """Choose different cells (B, count) of every image, each set as likely.

    ``uniform`` (B, N) has a random number per cell. A ValueError if there are
    not as many cells.

    Example:
        >>> random_cells(torch.tensor([[.3, .1, .2]]), 2)
        tensor([[1, 2]])
    """
    check_integer('the number of different cells', count, 1, uniform.shape[1])
    return uniform.argsort(dim=1)[:, :count]


def cosine_kmeans(features: Tensor, start: Tensor,
                  iterations: int) -> tuple[Tensor, Tensor]:
    """Cluster the features of every image by cosine similarity.

    An iteration assigns each feature to the most similar centroid, and moves
    each centroid to the mean of its normalised features. A cluster without
    features takes the one that is least similar to its own centroid; the
    second empty cluster of an image takes the next, and so on. Should equal
    features leave a cluster empty at the end, no label names it. Never in the
    reduced precision of autocast. Gives labels in [0, K), int64 (B, N), by the
    final centroids, and these, of unit length, (B, K, C). A ValueError if
    there is no iteration.

    Args:
        features: Shape (B, N, C), of any length.
        start: Index of the feature at which each cluster starts, int64,
            shape (B, K), K different ones; see :func:`random_cells`.
        iterations: At least 1.

    Example:
        >>> features = torch.tensor([[[1., 0.], [0., 1.], [2., .1]]])
        >>> cosine_kmeans(features, torch.tensor([[0, 1]]), iterations=1)[0]
        tensor([[0, 1, 0]])
    """
    num_clusters = start.shape[1]
    check_integer('iterations', iterations)
    with torch.autocast(features.device.type, enabled=False):
        if features.dtype != torch.float64:
            features = features.float()
        features = F.normalize(features, dim=2)
        centroids = _take(features, start)
        for _ in range(iterations):
            similarity, labels = (features @ centroids.mT).max(dim=2)
            members = _one_hot(labels, num_clusters, features.dtype)
            size = members.sum(dim=2, keepdim=True)
            # The n-th empty cluster gets the n-th worst represented feature.
            empty = size[..., 0] == 0
            order = (empty.long().cumsum(dim=1) - 1).clamp(min=0)
            worst = similarity.argsort(dim=1, stable=True).gather(1, order)
            moved = torch.where(empty[..., None], _take(features, worst),
                                members @ features / size.clamp(min=1))
            centroids = F.normalize(moved, dim=2)
        labels = (features @ centroids.mT).argmax(dim=2)
    return labels, centroids


def _take(features: Tensor, index: Tensor) -> Tensor:
    """Rows ``index`` (B, K) of every image's features (B, N, C)."""
    return features.take_along_dim(index[..., None], dim=1)


def _one_hot(labels: Tensor, num_labels: int, dtype: torch.dtype) -> Tensor:
    """One mask per label: (B, ...) to (B, K, ...); -1 belongs to none."""
    index = torch.arange(num_labels, device=labels.device)
    index = index.view(1, -1, *[1] * (labels.dim() - 1))
    return (labels[:, None] == index).to(dtype)


def overlap_matrix(scale: Tensor, shift: Tensor,
                   output_length: int, input_length: int) -> Tensor:
    """Share of every output cell that each input cell covers, on one axis.

    The point ``v`` of the output in [-1, 1] lies at ``scale * v + shift`` of
    the input, both (B,); a negative scale mirrors, it must not be 0. Rows of
    the result, (B, output_length, input_length), sum to the share of the
    output cell that lies inside the input.

    Example:
        >>> overlap_matrix(torch.tensor([.5]), torch.tensor([.5]), 1, 2)
        tensor([[[0., 1.]]])
    """
    edges = torch.arange(
        output_length + 1, dtype=scale.dtype, device=scale.device)
    edges = 2 * edges / output_length - 1
    edges = (scale[:, None] * edges + shift[:, None] + 1) * input_length / 2
    first, last = edges.unfold(1, 2, 1)[:, :, None].aminmax(dim=3)
    cells = torch.arange(input_length, dtype=scale.dtype, device=scale.device)
    covered = torch.minimum(last, cells + 1) - torch.maximum(first, cells)
    return covered.clamp(min=0) / (last - first)


def carry_labels(labels: Tensor, num_labels: int, theta: Tensor,
                 size: tuple[int, int]) -> Tensor:
    """Carry label maps from the reference view to the grid of another view.

    A cell of the view takes the label that covers most of it; of equal
    shares the lowest; -1 where it lies outside of the reference. This is
    RoI-align on masks, with exact areas instead of sampled points.

    Args:
        labels: Label maps of the reference view, shape (B, h, w).
        num_labels: Number of labels K.
        theta: Axis-aligned matrices from the view to the reference, (B, 3,
            3), see :func:`~mmmedmask.functional.affine.relative_theta`.
        size: Size of the view's grid, and the result's, as (H, W).

    Example:
        >>> labels = torch.tensor([[[0, 1], [0, 1]]])
        >>> mirror = torch.diag(torch.tensor([-1., 1., 1.]))[None]
        >>> carry_labels(labels, 2, mirror, (1, 2))
        tensor([[[1, 0]]])
    """
    rows, columns = along_axes(overlap_matrix, theta, size, labels.shape[1:])
    shares = torch.einsum('bHh,bkhw,bWw->bkHW', rows,
                          _one_hot(labels, num_labels, theta.dtype), columns)
    # Equal shares may differ in their last digits, here or on a GPU.
    largest, _ = shares.max(dim=1, keepdim=True)
    label = (shares >= largest - 1e-5).long().argmax(dim=1)
    return torch.where(largest[:, 0] > 1e-5, label, -1)


def pool_labels(features: Tensor, labels: Tensor,
                num_labels: int) -> tuple[Tensor, Tensor]:
    """Average features (B, C, H, W) over the cells of every label (B, H, W).

    Gives prototypes (B, K, C), 0 where a label has no cell, and whether it
    has one, bool, (B, K).

    Example:
        >>> features = torch.tensor([[[[1., 3.]]]])
        >>> pool_labels(features, torch.tensor([[[0, 0]]]), 2)[0].flatten()
        tensor([2., 0.])
    """
    masks = _one_hot(labels, num_labels, features.dtype)
    cells = masks.sum(dim=(2, 3))
    sums = torch.einsum('bkhw,bchw->bkc', masks, features)
    return sums / cells.clamp(min=1)[..., None], cells > 0
