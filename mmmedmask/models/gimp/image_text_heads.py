"""Objectives of three image-text methods, with genes in place of the text.

Rows of GiMP's Table 1: BioViL, MGCA and REFERS learn from radiographs with
reports. Here the expression stands for the report, the groups of GroupMSA for
its words, fragments for the words that a language model hides, and means of
consecutive patches (the landmarks of Nyström attention) for image regions.
GiMP's authors do not say how they put genes into the three; what is chosen
here is listed in docs/methods/gimp.md.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmedmask.functional import contrastive_losses
from mmmedmask.functional.masking import random_patch_mask
from mmmedmask.functional.nystrom import segment_means
from mmmedmask.models.gimp.group_msa import GroupMSA
from mmmedmask.models.gimp.heads import InfoNCEHead
from mmmedmask.models.layers.rank_means import count_of_ranks
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_integer, check_positive, check_range


class SlidesAndGenes(NamedTuple):
    """What a head that looks at tokens gets of a batch."""

    image: Tensor  # The slides' vectors CLS_img, (B, d).
    tokens: Tensor  # The patches' tokens, (B, N, d).
    valid: Tensor  # (B, N), bool, False = padding.
    genes: Tensor  # Scaled expression, (B, G); 0 for patients without.
    has_patches: Tensor  # Which patients have slides, (B, ), bool.
    has_genes: Tensor  # Which have genes, (B, ), bool.
    # Numbers in [0, 1) of each patient, (B, n), of a head that draws.
    uniform: Tensor | None

    @property
    def whole(self) -> Tensor:
        """Who has both, (B, ), bool."""
        return self.has_patches & self.has_genes

    def regions(self, count: int) -> list[Tensor]:
        """Means of at most ``count`` runs of patches of each bag, (R, d)."""
        return [segment_means(bag[kept][None, None], count)[0, 0]
                for bag, kept in zip(self.tokens, self.valid, strict=True)]


class CrossAttention(nn.Module):
    """One head of attention of queries (Q, d) to keys (K, d)."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (
            nn.Linear(dims, dims, bias=False) for _ in range(4))

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """What each query finds, (Q, d)."""
        mixed = F.scaled_dot_product_attention(
            self.query(queries)[None], self.key(keys)[None],
            self.value(keys)[None])
        return self.out(mixed[0])


class ImageTextHead(InfoNCEHead):
    """Base: each slide finds its genes, and the genes' encoder is trained.

    Arguments as :class:`~mmmedmask.models.gimp.heads.InfoNCEHead`; GiMP fills
    in ``image_dims`` and ``gene_dims``, of the slides' and genes' vectors.
    """

    #: GiMP hands over tokens, and its gene encoder, a GroupMSA.
    uses_tokens = True

    def num_draws(self, encoder: GroupMSA) -> int:
        """Numbers that are drawn for each patient."""
        return 0

    def with_genes(self, batch: SlidesAndGenes, encoder: GroupMSA,
                   decoded: Tensor, counts: Tensor) -> dict:
        """``loss_nce``, and ``loss_genes`` of decoded genes (B, N_f, f).

        The mean squared error of the fragments of ``counts`` (B, N_f), bool,
        in at least float32; 0 if nothing counts.
        """
        dtype = torch.promote_types(decoded.dtype, torch.float32)
        weight = counts[:, :, None] & (encoder.places >= 0)
        squared = (decoded.to(dtype) -
                   encoder.fragment_genes(batch.genes).to(dtype)).square()
        error = squared.where(weight, 0).sum() / count_of_ranks(weight.sum())
        return dict(
            self.contrast(*self.pairs(
                batch.image, encoder(batch.genes), batch.whole)),
            loss_genes=self.gene_weight * error)


@MODELS.register_module()
class BioViLHead(ImageTextHead):
    """BioViL: global contrast, and masked modelling of fragments of genes.

    Boecking et al., "Making the Most of Text Semantics to Improve Biomedical
    Vision-Language Processing", ECCV 2022. The language model is GroupMSA,
    which sees the genes twice: whole for the contrast, and with some fragments
    hidden, whose genes it predicts. Genes are numbers: squared errors stand
    for the cross-entropy of words. The defaults of temperature and gene_weight
    were not checked against the paper.

    Args:
        gene_dims: See :class:`ImageTextHead`, as for all that is not named.
        mask_ratio: Share of fragments that are hidden.
        gene_weight: Weight of the masked modelling.
    """

    def __init__(self, gene_dims: int, temperature: float = 0.5,
                 proj_dims: int = 128, mask_ratio: float = 0.15,
                 gene_weight: float = 1.0, **contrast: object) -> None:
        super().__init__(temperature=temperature, proj_dims=proj_dims,
                         gene_dims=gene_dims, **contrast)
        self.mask_ratio = check_range('mask_ratio', mask_ratio, 0, 1)
        self.gene_weight = check_range('gene_weight', gene_weight, 0)
        self.mask_token = nn.Parameter(torch.empty(gene_dims))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        # A language model's head in front of its tied embeddings.
        self.transform = nn.Sequential(nn.Linear(gene_dims, gene_dims),
                                       nn.GELU(), nn.LayerNorm(gene_dims))

    def num_draws(self, encoder: GroupMSA) -> int:
        """One per fragment."""
        return encoder.num_fragments

    def loss(self, batch: SlidesAndGenes, encoder: GroupMSA) -> dict:
        """``loss_nce`` and ``loss_genes`` of a batch."""
        mask = random_patch_mask(
            batch.uniform[:, None], self.mask_ratio)[:, 0, 0].bool().to(
                batch.genes.device)
        hidden = encoder.encode_fragments(batch.genes, mask, self.mask_token)
        decoded = encoder.decode_fragments(self.transform(hidden))
        return self.with_genes(batch, encoder, decoded,
                               mask & batch.has_genes[:, None])


@MODELS.register_module()
class MGCAHead(ImageTextHead):
    """MGCA: contrast of patients, of regions and groups, of prototypes.

    Wang et al., "Multi-Granularity Cross-modal Alignment for Generalized
    Medical Visual Representation Learning", NeurIPS 2022. Regions of a slide
    look for groups of genes and groups for regions by cross-attention; each
    has to find what it got among what the others of its patient got.
    Prototypes are shared by both halves: one predicts what the other is
    assigned to. All regions and groups weigh the same.

    Args:
        image_dims: See :class:`ImageTextHead`, as for all that is not named.
        temperature: Divides the similarities of patients.
        num_regions: Runs of patches of a slide.
        local_temperature: Divides the similarities of regions and groups.
        local_weight: Weight of their contrast.
        num_prototypes: Prototypes, K.
        prototype_temperature: Divides the similarities of predictions.
    """

    def __init__(self, image_dims: int, gene_dims: int,
                 temperature: float = 0.07, proj_dims: int = 128,
                 num_regions: int = 256, local_temperature: float = 0.1,
                 local_weight: float = 0.7, num_prototypes: int = 32,
                 prototype_temperature: float = 0.2,
                 prototype_weight: float = 0.5, **contrast: object) -> None:
        super().__init__(
            temperature=temperature, proj_dims=proj_dims,
            image_dims=image_dims, gene_dims=gene_dims, **contrast)
        self.num_regions = check_integer('num_regions', num_regions)
        self.local_temperature = check_positive(
            'local_temperature', local_temperature)
        self.local_weight = check_range('local_weight', local_weight, 0)
        self.prototype_temperature = check_positive(
            'prototype_temperature', prototype_temperature)
        self.prototype_weight = check_range(
            'prototype_weight', prototype_weight, 0)
        self.project_regions = nn.Linear(image_dims, proj_dims, bias=False)
        self.project_groups = nn.Linear(gene_dims, proj_dims, bias=False)
        self.to_groups = CrossAttention(proj_dims)
        self.to_regions = CrossAttention(proj_dims)
        self.prototypes = nn.Parameter(torch.randn(
            check_integer('num_prototypes', num_prototypes), proj_dims))

    def loss(self, batch: SlidesAndGenes, encoder: GroupMSA) -> dict:
        """``loss_nce``, ``loss_local`` and ``loss_proto`` of a batch."""
        groups = encoder.encode_groups(batch.genes)
        image, genes = self.pairs(
            batch.image, encoder.encode_class(groups), batch.whole)
        losses = self.contrast(image, genes)
        shared = contrastive_losses.prototype_contrast(
            image, genes, self.prototypes, self.prototype_temperature,
        ) if len(image) else 0 * self.prototypes.sum()
        return dict(losses, loss_local=self.local_weight * self.local_contrast(
            batch.regions(self.num_regions), groups,
            batch.whole), loss_proto=self.prototype_weight * shared)

    def local_contrast(self, regions: Sequence[Tensor], groups: Tensor,
                       whole: Tensor) -> Tensor:
        """What regions (R, d) of each patient and groups (B, N_gr, d') find.

        The mean over both directions and the patients of ``whole``.
        """
        total = 0 * sum(parameter.sum() for parameter in self.parameters())
        for index in whole.nonzero()[:, 0].tolist():
            seen = F.normalize(self.project_regions(regions[index]), dim=1)
            read = F.normalize(self.project_groups(groups[index]), dim=1)
            for tokens, attended in ((seen, self.to_groups(seen, read)),
                                     (read, self.to_regions(read, seen))):
                total = total + contrastive_losses.info_nce(
                    tokens, attended, self.local_temperature) / 2
        return total / count_of_ranks(whole.sum())


@MODELS.register_module()
class REFERSHead(ImageTextHead):
    """REFERS: the slide writes the expression, and finds its own.

    Zhou et al., "Generalized radiograph representation learning via
    cross-supervision between images and free-text radiology reports", Nature
    Machine Intelligence 2022. A decoder, whose queries are the positions of
    GroupMSA's fragments, attends to the slide and its regions and predicts all
    genes at once: expression has no order in which to write it. Slides of a
    patient, as views of a study there, are one bag. A ValueError in training,
    if the gene encoder has no positions.

    Args:
        image_dims: See :class:`ImageTextHead`, as for all that is not named.
        temperature: Divides the cosine similarities of the matching.
        image_share: Weight in the matching of slides that look for genes.
        num_regions: Runs of patches of a slide.
        gene_weight: Weight of the reconstruction.
    """

    def __init__(self, image_dims: int, gene_dims: int,
                 temperature: float = 0.1, proj_dims: int = 128,
                 image_share: float = 0.75, num_regions: int = 256,
                 gene_weight: float = 1.0, **contrast: object) -> None:
        super().__init__(temperature=temperature, proj_dims=proj_dims,
                         image_dims=image_dims, gene_dims=gene_dims,
                         image_share=image_share, **contrast)
        self.num_regions = check_integer('num_regions', num_regions)
        self.gene_weight = check_range('gene_weight', gene_weight, 0)
        self.memory = nn.Linear(image_dims, gene_dims)
        self.read = CrossAttention(gene_dims)
        self.transform = nn.Sequential(
            nn.LayerNorm(gene_dims), nn.Linear(gene_dims, gene_dims),
            nn.GELU(), nn.LayerNorm(gene_dims))

    def loss(self, batch: SlidesAndGenes, encoder: GroupMSA) -> dict:
        """``loss_nce`` and ``loss_genes`` of a batch."""
        decoded = encoder.decode_fragments(self.write(batch, encoder))
        counts = batch.whole[:, None].expand(-1, encoder.num_fragments)
        return self.with_genes(batch, encoder, decoded, counts)

    def write(self, batch: SlidesAndGenes, encoder: GroupMSA) -> Tensor:
        """A token per fragment from the slides alone, (B, N_f, d')."""
        if encoder.position is None:
            raise ValueError('REFERSHead asks for fragments by their '
                             'positions: GroupMSA needs position=True, got '
                             'False')
        written = []
        for vector, regions in zip(
                batch.image, batch.regions(self.num_regions), strict=True):
            memory = self.memory(torch.cat([vector[None], regions]))
            written.append(
                encoder.position + self.read(encoder.position, memory))
        return self.transform(torch.stack(written))
