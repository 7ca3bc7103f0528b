"""GiMP's losses: masked L1 (Eq. 3), triplets (Eq. 4), and their rival.

In a distributed run the triplets and the contrast are over the batches of
all ranks, and the gradient is that of one process with all of them.
"""

import torch
from mmengine.dist import all_gather, get_rank, get_world_size
from mmengine.model import BaseModule
from torch import Tensor, distributed, nn

from mmmedmask.functional import triplets
from mmmedmask.functional.contrastive_losses import info_nce
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import (
    check_choice,
    check_integer,
    check_positive,
    check_range,
)

REDUCTIONS = ('mean', 'sum')
# Keeps the variance of a constant feature vector positive.
VARIANCE_EPSILON = 1e-6


def masked_l1(prediction: Tensor, target: Tensor, num_bags: int,
              reduction: str = 'mean') -> Tensor:
    """Absolute error of masked patches, Eq. 3; 0 if nothing is masked.

    Both are (M, D), of all bags. In at least float32; see :class:`MPMHead`
    for the reduction.
    """
    check_choice('reduction', reduction, REDUCTIONS)
    with torch.autocast(prediction.device.type, enabled=False):
        dtype = torch.promote_types(prediction.dtype, torch.float32)
        total = (prediction.to(dtype) - target.to(dtype)).abs().sum()
    return total / (num_bags if reduction == 'sum' else
                    max(prediction.numel(), 1))


@MODELS.register_module()
class MPMHead(BaseModule):
    """Reconstruct the features of masked patches, Eq. 3.

    Args:
        in_dims: Dimensions of the aggregator's tokens, d.
        out_dims: Dimensions of the patch features, D.
        depth: Linear layers behind a LayerNorm; 1 is the lightest, 2 has a
            GELU between two.
        norm_target: Bring each target to mean 0 and variance 1 over its
            dimensions, which makes the loss of features of different
            encoders comparable; the paper does not.
        reduction: ``'mean'`` over all masked elements, or ``'sum'``, Eq. 3
            as it is written, averaged over the bags. The sum of millions of
            elements leaves nothing of the triplets' gradient.
        init_cfg: Initialisation; None draws weights with deviation 0.02.
    """

    def __init__(self, in_dims: int, out_dims: int, depth: int = 1,
                 norm_target: bool = False, reduction: str = 'mean',
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(
            init_cfg or dict(type='TruncNormal', layer='Linear', std=0.02))
        check_integer('depth', depth)
        self.in_dims = check_integer('in_dims', in_dims)
        self.out_dims = check_integer('out_dims', out_dims)
        self.norm_target = norm_target
        self.reduction = check_choice('reduction', reduction, REDUCTIONS)
        hidden = [layer for _ in range(depth - 1)
                  for layer in (nn.Linear(in_dims, in_dims), nn.GELU())]
        self.decoder = nn.Sequential(
            nn.LayerNorm(in_dims), *hidden, nn.Linear(in_dims, out_dims))

    def forward(self, tokens: Tensor) -> Tensor:
        """Decode tokens (..., d) to (..., D), as :meth:`target`."""
        return self.decoder(tokens)

    def target(self, patches: Tensor) -> Tensor:
        """What is to be predicted for patches (..., D), at least float32."""
        patches = patches.to(torch.promote_types(patches.dtype, torch.float32))
        if not self.norm_target:
            return patches
        variance, mean = torch.var_mean(
            patches, dim=-1, keepdim=True, correction=0)
        return (patches - mean) / (variance + VARIANCE_EPSILON).sqrt()

    def loss(self, tokens: Tensor, patches: Tensor, mask: Tensor) -> Tensor:
        """Eq. 3, a float32 or float64 scalar. Only masked patches are decoded.

        Args:
            tokens: The aggregator's output, shape (B, N, d).
            patches: The features before masking, shape (B, N, D).
            mask: Shape (B, N), bool, 1 = masked; False at padding.
        """
        return masked_l1(self(tokens[mask]), self.target(patches[mask]),
                         len(tokens), self.reduction)


class _GatherRows(torch.autograd.Function):
    """Rows of all ranks; backward adds up what all ranks ask of a row."""

    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        return torch.cat(all_gather(rows.contiguous()))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        distributed.all_reduce(gradient)
        start = get_rank() * ctx.count
        return gradient[start:start + ctx.count]


def gather_rows(*tensors: Tensor | None) -> list[Tensor | None]:
    """Put the batches of all ranks together, with gradients, rank after rank.

    Every rank computes the same loss on the same rows. Its gradient is added
    up over the ranks, and averaged over them by DistributedDataParallel:
    what remains is the gradient of one process with all rows.

    The tensors have as many rows on every rank, else a ValueError; None stays.
    """
    if get_world_size() == 1:
        return list(tensors)
    first = next(tensor for tensor in tensors if tensor is not None)
    sizes = torch.cat(all_gather(
        torch.tensor([len(first)], device=first.device))).tolist()
    if len(set(sizes)) > 1:
        raise ValueError(f'the batches of the ranks have the sizes {sizes}; '
                         'triplets across ranks need the same on each: use '
                         'drop_last')
    return [None if tensor is None else _GatherRows.apply(tensor)
            for tensor in tensors]


@MODELS.register_module()
class TripletHead(BaseModule):
    """Triplets over image and gene vectors, Eq. 4, with what to watch.

    Args:
        margin: Margin of the squared distances, delta.
        mining: ``'all'``, ``'batch_hard'``, ``'semi_hard'`` or ``'random'``;
            see :func:`~mmmedmask.functional.triplets.triplet_loss`.
        normalize: ``'none'`` as the paper, or ``'each'`` for halves of
            length 1, which gives the margin a fixed meaning.
    """

    #: The loss tells classes apart; GiMP hands over the labels.
    uses_labels = True
    uses_tokens = False

    def __init__(self, margin: float = 0.8, mining: str = 'all',
                 normalize: str = 'none', loss_weight: float = 1.0) -> None:
        super().__init__()
        self.margin = check_range('margin', margin, 0)
        self.mining = check_choice('mining', mining, triplets.MININGS)
        self.normalize = check_choice('normalize', normalize,
                                      triplets.NORMALIZATIONS)
        self.loss_weight = check_range('loss_weight', loss_weight, 0)

    def loss(self, image: Tensor, genes: Tensor | None, labels: Tensor,
             uniform: Tensor | None = None) -> dict:
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
        image, genes, labels, uniform = gather_rows(
            image, genes, labels, uniform)
        result = triplets.triplet_loss(image, genes, labels, self.margin,
                                       self.mining, self.normalize, uniform)
        scalars = dict(loss_tri=self.loss_weight * result.loss,
                       tri_active=result.active_share,
                       tri_count=result.num_triplets.to(result.loss.dtype),
                       d2_ap_img=result.positive_image,
                       d2_an_img=result.negative_image)
        return scalars if genes is None else scalars | dict(
            d2_ap_ge=result.positive_genes, d2_an_ge=result.negative_genes)


@MODELS.register_module()
class InfoNCEHead(BaseModule):
    """Contrast between slides and genes, in place of the triplets.

    Args:
        temperature: Divides the cosine similarities.
        proj_dims: Dimensions of a common space that both vectors are
            projected to; None: they are compared as they are. With a frozen
            gene encoder, a projection lets the genes' side adapt.
        image_dims: Dimensions of the slides' vectors, for the projection.
        gene_dims: Dimensions of the genes' vectors, for the projection.
        image_share: Weight of slides that look for genes; the rest is that
            of genes that look for slides.
    """

    #: The loss tells patients apart; GiMP hands over who has both halves.
    uses_labels = False
    uses_tokens = False

    def __init__(self, temperature: float = 0.07, proj_dims: int | None = None,
                 image_dims: int | None = None, gene_dims: int | None = None,
                 image_share: float = 0.5, loss_weight: float = 1.0,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        self.image_share = check_range('image_share', image_share, 0, 1)
        self.image_dims = image_dims
        self.gene_dims = gene_dims
        self.loss_weight = check_range('loss_weight', loss_weight, 0)
        self.temperature = check_positive('temperature', temperature)
        for name, dims in (('proj_dims', proj_dims),
                           ('image_dims', image_dims),
                           ('gene_dims', gene_dims)):
            if dims is not None:
                check_integer(name, dims)
        self.project = nn.ModuleList()
        if proj_dims is not None:
            for name, dims in (('image_dims', image_dims),
                               ('gene_dims', gene_dims)):
                check_integer(f'{name} for proj_dims={proj_dims}', dims)
                self.project.append(nn.Linear(dims, proj_dims, bias=False))

    def loss(self, image: Tensor, genes: Tensor,
             keep: Tensor | None = None) -> dict:
        """``loss_nce`` of the vectors CLS_img (B, d) and CLS_ge (B, d').

        ``keep`` (B, ), bool, says which patients have both; None: all.
        """
        return self.contrast(*self.pairs(image, genes, keep))

    def pairs(self, image: Tensor, genes: Tensor,
              keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Project both halves; those of all ranks who have both, (K, D)."""
        if self.project:
            image, genes = (project(half) for project, half in zip(
                self.project, (image, genes), strict=True))
        flags = None if keep is None else keep.long()
        image, genes, flags = gather_rows(image, genes, flags)
        if flags is None:
            return image, genes
        return image[flags.bool()], genes[flags.bool()]

    def contrast(self, image: Tensor, genes: Tensor) -> dict:
        """``loss_nce`` of :meth:`pairs`; 0 with a graph if there are none."""
        loss = info_nce(
            image, genes, self.temperature,
            self.image_share) if len(image) else image.sum() + genes.sum()
        return dict(loss_nce=self.loss_weight * loss)
