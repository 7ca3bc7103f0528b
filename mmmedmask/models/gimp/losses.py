"""GiMP's losses: masked L1 (Eq. 3), triplets (Eq. 4), and their rival.

In a distributed run the triplets and the contrast are over the batches of
all ranks, and the gradient is that of one process with all of them.
"""

import math

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.model import BaseModule
from torch import distributed, nn

from mmmedmask.functional.triplets import (
    check_triplet_options,
    info_nce,
    triplet_loss,
)
from mmmedmask.registry import MODELS

REDUCTIONS = ('mean', 'sum')


def check_reduction(reduction: str) -> None:
    """Raise a ValueError if a reduction is unknown."""
    if reduction not in REDUCTIONS:
        raise ValueError(
            f'reduction must be one of {REDUCTIONS}, got {reduction!r}')


def masked_l1(prediction: torch.Tensor,
              target: torch.Tensor,
              num_bags: int,
              reduction: str = 'mean') -> torch.Tensor:
    """Absolute error of masked patches, Eq. 3.

    Args:
        prediction: The masked patches of all bags, shape (M, D).
        target: Their features, shape (M, D).
        num_bags: Bags that they come from, B.
        reduction: ``'mean'`` over the M * D elements, or ``'sum'`` over
            those of a bag, averaged over the bags.

    Returns:
        A float32 or float64 scalar; 0 if nothing is masked.

    Raises:
        ValueError: If ``reduction`` is unknown.
    """
    check_reduction(reduction)
    with torch.autocast(prediction.device.type, enabled=False):
        dtype = torch.promote_types(prediction.dtype, torch.float32)
        total = (prediction.to(dtype) - target.to(dtype)).abs().sum()
    return total / (num_bags if reduction == 'sum' else
                    max(prediction.numel(), 1))


class _GatherRows(torch.autograd.Function):
    """Rows of all ranks; backward adds up what all ranks ask of a row."""

    @staticmethod
    def forward(ctx, rows: torch.Tensor) -> torch.Tensor:
        ctx.count = len(rows)
        gathered = [torch.empty_like(rows) for _ in range(get_world_size())]
        distributed.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.contiguous()
        distributed.all_reduce(gradient)
        start = get_rank() * ctx.count
        return gradient[start:start + ctx.count]


def gather_rows(*tensors: torch.Tensor | None) -> list[torch.Tensor | None]:
    """Put the batches of all ranks together, with gradients.

    Every rank computes the same loss on the same rows. Its gradient is added
    up over the ranks, and averaged over them by DistributedDataParallel:
    what remains is the gradient of one process with all rows.

    Args:
        tensors: Shape (B, ...), with the same B on every rank; None stays.

    Returns:
        The tensors with ``B * ranks`` rows, rank after rank; unchanged
        without a process group.

    Raises:
        ValueError: If the ranks' batches differ in size.
    """
    if get_world_size() == 1:
        return list(tensors)
    first = next(one for one in tensors if one is not None)
    size = torch.tensor([len(first)], device=first.device)
    sizes = [torch.empty_like(size) for _ in range(get_world_size())]
    distributed.all_gather(sizes, size)
    sizes = torch.cat(sizes).tolist()
    if len(set(sizes)) > 1:
        raise ValueError(f'the batches of the ranks have the sizes {sizes}; '
                         'triplets across ranks need the same on each: use '
                         'drop_last')
    return [None if one is None else _GatherRows.apply(one)
            for one in tensors]


@MODELS.register_module()
class TripletHead(BaseModule):
    """Triplets over image and gene vectors, Eq. 4, with what to watch.

    Args:
        margin: Margin of the squared distances, delta.
        mining: ``'all'``, ``'batch_hard'``, ``'semi_hard'`` or
            ``'random'``; see
            :func:`~mmmedmask.functional.triplets.triplet_loss`.
        normalize: ``'none'`` as the paper, or ``'each'`` for halves of
            length 1, which gives the margin a fixed meaning.
        loss_weight: Weight of the loss.
        across_ranks: Whether a distributed run builds triplets of the
            patients of all ranks.

    Raises:
        ValueError: If an argument is outside its range.
    """

    #: The loss tells classes apart; GiMP hands over the labels.
    uses_labels = True

    def __init__(self,
                 margin: float = 0.8,
                 mining: str = 'all',
                 normalize: str = 'none',
                 loss_weight: float = 1.0,
                 across_ranks: bool = True) -> None:
        super().__init__()
        if margin < 0:
            raise ValueError(f'margin must be at least 0, got {margin}')
        if loss_weight < 0:
            raise ValueError(
                f'loss_weight must be at least 0, got {loss_weight}')
        check_triplet_options(mining, normalize)
        self.margin = margin
        self.mining = mining
        self.normalize = normalize
        self.loss_weight = loss_weight
        self.across_ranks = across_ranks

    def loss(self,
             image: torch.Tensor,
             genes: torch.Tensor | None,
             labels: torch.Tensor,
             uniform: torch.Tensor | None = None) -> dict:
        """The loss and scalars for the log.

        Args:
            image: The slides' vectors CLS_img, shape (B, d).
            genes: The genes' vectors CLS_ge, shape (B, d'); None: triplets
                of images alone.
            labels: Classes, shape (B, ), int64; a negative one takes a
                patient out.
            uniform: Numbers in [0, 1), shape (B, 2), needed by
                ``mining='random'``.

        Returns:
            ``loss_tri``; without a graph ``tri_active``, the share of active
            triplets, ``tri_count``, and the mean squared distances of pairs
            of one class (``d2_ap_img``, ``d2_ap_ge``) and of two
            (``d2_an_img``, ``d2_an_ge``).
        """
        if uniform is not None:
            uniform = uniform.to(image.device)
        if self.across_ranks:
            image, genes, labels, uniform = gather_rows(
                image, genes, labels, uniform)
        result = triplet_loss(image, genes, labels, self.margin, self.mining,
                              self.normalize, uniform)
        scalars = dict(
            loss_tri=self.loss_weight * result.loss,
            tri_active=result.active_share,
            tri_count=result.num_triplets.to(result.loss.dtype),
            d2_ap_img=result.positive_image,
            d2_an_img=result.negative_image)
        if genes is not None:
            scalars.update(
                d2_ap_ge=result.positive_genes,
                d2_an_ge=result.negative_genes)
        return scalars


@MODELS.register_module()
class InfoNCEHead(BaseModule):
    """Contrast between slides and genes, in place of the triplets.

    Args:
        temperature: Divides the cosine similarities.
        learn_temperature: Whether it is a parameter, kept as the logarithm
            of its inverse and never below 0.01, as in CLIP.
        proj_dims: Dimensions of a common space that both vectors are
            projected to; None: they are compared as they are. With a frozen
            gene encoder, a projection lets the genes' side adapt.
        image_dims: Dimensions of the slides' vectors, for the projection.
        gene_dims: Dimensions of the genes' vectors, for the projection.
        loss_weight: Weight of the loss.
        across_ranks: Whether a distributed run contrasts the patients of
            all ranks.
        init_cfg: Initialisation.

    Raises:
        ValueError: If an argument is outside its range.
    """

    #: The loss tells patients apart; GiMP hands over who has both halves.
    uses_labels = False

    def __init__(self,
                 temperature: float = 0.07,
                 learn_temperature: bool = False,
                 proj_dims: int | None = None,
                 image_dims: int | None = None,
                 gene_dims: int | None = None,
                 loss_weight: float = 1.0,
                 across_ranks: bool = True,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        if temperature <= 0:
            raise ValueError(
                f'temperature must be above 0, got {temperature}')
        if loss_weight < 0:
            raise ValueError(
                f'loss_weight must be at least 0, got {loss_weight}')
        self.image_dims = image_dims
        self.gene_dims = gene_dims
        self.loss_weight = loss_weight
        self.across_ranks = across_ranks
        self.temperature = temperature
        self.log_scale = nn.Parameter(torch.tensor(
            -math.log(temperature))) if learn_temperature else None
        self.project = nn.ModuleList()
        if proj_dims is not None:
            for name, dims in (('image_dims', image_dims),
                               ('gene_dims', gene_dims)):
                if dims is None or dims < 1:
                    raise ValueError(f'proj_dims={proj_dims} needs {name} of '
                                     f'at least 1, got {dims}')
                self.project.append(nn.Linear(dims, proj_dims, bias=False))

    def loss(self,
             image: torch.Tensor,
             genes: torch.Tensor,
             keep: torch.Tensor | None = None) -> dict:
        """The loss and scalars for the log.

        Args:
            image: The slides' vectors CLS_img, shape (B, d).
            genes: The genes' vectors CLS_ge, shape (B, d').
            keep: Shape (B, ), bool: who has both; None: everybody.

        Returns:
            ``loss_nce``, and ``nce_temperature`` without a graph.
        """
        if self.project:
            image, genes = (
                project(half) for project, half in zip(
                    self.project, (image, genes), strict=True))
        if self.across_ranks:
            flags = None if keep is None else keep.long()
            image, genes, flags = gather_rows(image, genes, flags)
            keep = None if flags is None else flags.bool()
        if keep is not None:
            image, genes = image[keep], genes[keep]
        temperature = image.new_tensor(
            self.temperature, dtype=torch.float32)
        if self.log_scale is not None:
            temperature = (-self.log_scale).exp().clamp(min=0.01)
        if len(image):
            loss = info_nce(image, genes, temperature)
        else:
            loss = (image.sum() + genes.sum()) * temperature
        return dict(
            loss_nce=self.loss_weight * loss,
            nce_temperature=temperature.detach())
