"""Fusion of a patient's two vectors, slides and genes, into one.

For a missing one stand zeros, or a vector that is learned, from zero on, of
training patients who lack a modality or lose it to modality dropout.
"""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmedmask.registry import MODELS
from mmmedmask.util.checks import (
    check_choice,
    check_integer,
    check_range,
    check_rate,
)

MISSING_CHOICES = ('learned', 'zeros')
GATE_CHOICES = ('linear', 'bilinear', 'none')


class Fusion(BaseModule):
    """Base of fusions: replaces what is missing. Subclasses write
    :meth:`fuse`.

    Args:
        image_dims: Dimensions of the slides' vector, d. The classifier fills
            it in, as the next.
        gene_dims: Dimensions of the genes' vector, e.
        out_dims: Dimensions of the patient's vector.
        missing: What stands for a missing vector: a ``'learned'`` one or
            ``'zeros'``.
        modality_dropout: Probability that training takes one of the two
            vectors, either with half of it, from a patient who has both.
    """

    def __init__(self, image_dims: int, gene_dims: int, out_dims: int,
                 missing: str = 'learned', modality_dropout: float = 0.0,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        check_choice('missing', missing, MISSING_CHOICES)
        self.image_dims = check_integer('image_dims', image_dims)
        self.gene_dims = check_integer('gene_dims', gene_dims)
        self.out_dims = check_integer('out_dims', out_dims)
        self.modality_dropout = check_range(
            'modality_dropout', modality_dropout, 0, 1, open_high=True)
        for name, dims in (('missing_image', image_dims),
                           ('missing_genes', gene_dims)):
            if missing == 'learned':
                self.register_parameter(name, nn.Parameter(torch.zeros(dims)))
            else:
                self.register_buffer(name, torch.zeros(dims), persistent=False)

    def forward(self, image: Tensor, genes: Tensor,
                has_image: Tensor | None = None,
                has_genes: Tensor | None = None) -> Tensor:
        """Fuse to the patients' vectors, (B, out_dims) or (B, K, out_dims).

        Args:
            image: The slides' vectors, shape (B, d), or (B, K, d) with one
                for each class.
            genes: The genes' vectors, shape (B, e).
            has_image: Shape (B, ), bool, False where a patient has no
                slide; None: all have.
            has_genes: The same for genes.
        """
        if self.training and self.modality_dropout:
            has_image, has_genes = self.drop_modalities(
                image, has_image, has_genes)
        image, genes = self.fill_missing(image, genes, has_image, has_genes)
        if image.ndim == 3:
            genes = genes[:, None].expand(-1, image.shape[1], -1)
        return self.fuse(image, genes)

    def drop_modalities(self, image: Tensor, has_image: Tensor | None,
                        has_genes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Hide one of the two of some patients; say who has which then."""
        uniform = torch.rand(len(image), device=image.device)
        everybody = torch.ones_like(uniform, dtype=torch.bool)
        has_image = everybody if has_image is None else has_image
        has_genes = everybody if has_genes is None else has_genes
        both = has_image & has_genes
        half = self.modality_dropout / 2
        takes_genes = both & (uniform < half)
        takes_image = both & (uniform >= half) & (uniform < 2 * half)
        return has_image & ~takes_image, has_genes & ~takes_genes

    def fill_missing(self, image: Tensor, genes: Tensor,
                     has_image: Tensor | None,
                     has_genes: Tensor | None) -> tuple[Tensor, ...]:
        """Put the fusion's own vectors where a patient has none."""
        filled = []
        for vector, has, missing in ((image, has_image, self.missing_image),
                                     (genes, has_genes, self.missing_genes)):
            if has is not None:
                has = has.view(-1, *[1] * (vector.ndim - 1))
                vector = torch.where(has, vector, missing.to(vector.dtype))
            filled.append(vector)
        return tuple(filled)

    def fuse(self, image: Tensor, genes: Tensor) -> Tensor:
        """Fuse vectors of shape (..., d) and (..., e); none is missing."""
        raise NotImplementedError


@MODELS.register_module()
class ConcatFusion(Fusion):
    """``[CLS_img, CLS_ge]``, the patient's vector of GiMP (section 2.2).

    Arguments as :class:`Fusion`, but ``out_dims``.
    """

    def __init__(self, image_dims: int, gene_dims: int, **options) -> None:
        super().__init__(image_dims, gene_dims, image_dims + gene_dims,
                         **options)

    def fuse(self, image: Tensor, genes: Tensor) -> Tensor:
        """Concatenate; see the base class."""
        return torch.cat([image, genes], dim=-1)


class GatedVector(nn.Module):
    """A vector x made smaller, and weighed by a gate that sees both.

    ``W_o (sigmoid(z) * relu(W x))``, with ``z`` linear in ``[x, y]`` or
    bilinear in x and y; see :class:`KroneckerFusion`.
    """

    def __init__(self, dims: int, other_dims: int, reduced_dims: int,
                 gate: str, drop_rate: float) -> None:
        super().__init__()
        self.reduce = nn.Linear(dims, reduced_dims)
        self.gate = None
        if gate == 'linear':
            self.gate = nn.Linear(dims + other_dims, reduced_dims)
        elif gate == 'bilinear':
            self.gate = nn.Bilinear(dims, other_dims, reduced_dims)
        self.out = nn.Linear(reduced_dims, reduced_dims)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, vector: Tensor, other: Tensor) -> Tensor:
        """Reduce (..., dims) and gate by (..., other_dims), to (..., r)."""
        reduced = self.reduce(vector).relu()
        if isinstance(self.gate, nn.Bilinear):
            # Autocast on a CPU leaves inputs of other types to it.
            with torch.autocast(vector.device.type, enabled=False):
                gate = self.gate(*(half.to(self.gate.weight.dtype)
                                   for half in (vector, other)))
            reduced = reduced * gate.sigmoid()
        elif self.gate is not None:
            reduced = reduced * self.gate(
                torch.cat([vector, other], dim=-1)).sigmoid()
        return self.drop(self.out(reduced).relu())


@MODELS.register_module()
class KroneckerFusion(Fusion):
    """Gated outer product of the two vectors (Pathomic Fusion, PORPOISE).

    Chen et al., "Pathomic Fusion", IEEE TMI 2020, section III-D, and Chen et
    al., "Pan-cancer integrative histology-genomic analysis", Cancer Cell
    2022: each vector is made smaller and weighed by a gate, both get a 1
    appended, so that their outer product holds them and all products of two
    of their entries, and layers follow.

    Args:
        reduced_dims: Dimensions of each vector in the product, r.
        gate: ``'linear'`` in both vectors, ``'bilinear'``, which has a
            weight for every pair of entries, or ``'none'``.
        skip: Whether the two vectors in the product are put beside what
            comes out of it, before the last layer.
        drop_rate: Dropout of each vector, of the product and behind each
            layer.
        options: Further arguments of :class:`Fusion`.
    """

    def __init__(self, image_dims: int, gene_dims: int, reduced_dims: int = 32,
                 out_dims: int = 256, gate: str = 'linear', skip: bool = False,
                 drop_rate: float = 0.25, **options) -> None:
        super().__init__(image_dims, gene_dims, out_dims, **options)
        check_integer('reduced_dims', reduced_dims)
        check_choice('gate', gate, GATE_CHOICES)
        check_rate('drop_rate', drop_rate)
        self.skip = skip
        self.image = GatedVector(image_dims, gene_dims, reduced_dims, gate,
                                 drop_rate)
        self.genes = GatedVector(gene_dims, image_dims, reduced_dims, gate,
                                 drop_rate)
        self.drop = nn.Dropout(drop_rate)
        self.product = nn.Sequential(
            nn.Linear((reduced_dims + 1)**2, out_dims), nn.ReLU(),
            nn.Dropout(drop_rate))
        width = out_dims + 2 * (reduced_dims + 1) if skip else out_dims
        self.mix = nn.Sequential(
            nn.Linear(width, out_dims), nn.ReLU(), nn.Dropout(drop_rate))

    def fuse(self, image: Tensor, genes: Tensor) -> Tensor:
        """Gate, multiply and mix; see the base class."""
        halves = self.image(image, genes), self.genes(genes, image)
        left, right = (torch.cat([half, half.new_ones(*half.shape[:-1], 1)],
                                 dim=-1) for half in halves)
        product = (left[..., :, None] * right[..., None, :]).flatten(-2)
        fused = self.product(self.drop(product))
        if self.skip:
            fused = torch.cat([fused, left, right], dim=-1)
        return self.mix(fused)
