"""Multimodal co-attention transformer: sets of genes look at patches.

Chen et al., "Multimodal Co-Attention Transformer for Survival Prediction in
Gigapixel Whole Slide Images", ICCV 2021.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmmedmask.functional.bags import masked_softmax, weighted_sum
from mmmedmask.models.layers import gene_names, gene_set_places
from mmmedmask.models.mil import base
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_integer, check_multiple, check_shape


class GeneSetTokens(nn.Module):
    """A token of each set of genes, from a small network of its own.

    ``places`` of each set's genes are S tensors of shape (G_s, ). The dropout
    keeps mean and variance (alpha dropout).
    """

    def __init__(self, places: Sequence[Tensor], embed_dims: int,
                 drop_rate: float) -> None:
        super().__init__()
        self.sizes = [len(genes) for genes in places]
        # In the checkpoint: networks of other genes must not be loaded.
        self.register_buffer('places', torch.cat(list(places)))
        self.networks = nn.ModuleList(
            nn.Sequential(nn.Linear(size, embed_dims), nn.ELU(),
                          nn.AlphaDropout(drop_rate),
                          nn.Linear(embed_dims, embed_dims), nn.ELU(),
                          nn.AlphaDropout(drop_rate)) for size in self.sizes)

    def forward(self, genes: Tensor) -> Tensor:
        """Make the tokens: scaled expression (B, G) to (B, S, d)."""
        parts = genes[:, self.places].split(self.sizes, dim=1)
        return torch.stack([
            network(part)
            for network, part in zip(self.networks, parts, strict=True)
        ], dim=1)


class PooledTransformer(nn.Module):
    """Transformer over the sets' tokens, and attention pooling."""

    def __init__(self, embed_dims: int, num_layers: int, num_heads: int,
                 drop_rate: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(
            embed_dims, num_heads, 2 * embed_dims, drop_rate,
            batch_first=True) for _ in range(num_layers))
        self.scores = base.AttentionScores(embed_dims, embed_dims)
        self.out = nn.Sequential(nn.Linear(embed_dims, embed_dims), nn.ReLU(),
                                 nn.Dropout(drop_rate))

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool tokens (B, S, d) to (B, d)."""
        for layer in self.layers:
            tokens = layer(tokens)
        weights = masked_softmax(self.scores(tokens), None)
        return self.out(weighted_sum(weights, tokens)[:, 0])


@MODELS.register_module()
class MCAT(base.BagAggregator):
    """Gene-guided co-attention: slides and genes give one vector.

    A token of each set of genes averages the patches by its attention; two
    transformers, over what it saw and over the sets themselves, are pooled
    and joined.

    For patients without genes every set has the same learned token, which
    starts at zero: the plain mean of the patches. For patients without slides
    the sets see zeros. A FileNotFoundError if a file is not there.

    Args:
        num_genes: Genes, G.
        gene_sets: The sets, see
            :func:`~mmmedmask.models.layers.gene_set_places`; the paper has
            six, by function.
        gene_list: See there. It has to be the data set's.
        embed_dims: Dimensions of all tokens and of the vector, d.
        num_layers: Layers of each transformer.
        num_heads: Heads of their attention.
        options: Further arguments of :class:`BagAggregator`.
    """

    uses_genes = True

    def __init__(self, in_dims: int, num_genes: int,
                 gene_sets: int | str | Sequence[Sequence[int]] = 6,
                 gene_list: str | Sequence[str] | None = None,
                 embed_dims: int = 256, num_layers: int = 2,
                 num_heads: int = 8, drop_rate: float = 0.25,
                 **options) -> None:
        super().__init__(in_dims, embed_dims, drop_rate, **options)
        check_integer('num_layers', num_layers)
        check_multiple('embed_dims', embed_dims, num_heads, 'num_heads')
        self.num_genes = check_integer('num_genes', num_genes)
        self.gene_ids = gene_names(gene_list)
        self.gene_tokens = GeneSetTokens(
            gene_set_places(gene_sets, num_genes, self.gene_ids), embed_dims,
            drop_rate)
        self.missing_genes = nn.Parameter(torch.zeros(embed_dims))
        self.query = nn.Linear(embed_dims, embed_dims)
        # A constant key would leave the softmax over patches as it is.
        self.key = nn.Linear(embed_dims, embed_dims, bias=False)
        self.value = nn.Linear(embed_dims, embed_dims)
        self.slide_transformer, self.gene_transformer = (
            PooledTransformer(embed_dims, num_layers, num_heads, drop_rate)
            for _ in range(2))
        self.join = nn.Sequential(
            nn.Linear(2 * embed_dims, embed_dims), nn.ReLU(),
            nn.Linear(embed_dims, embed_dims), nn.ReLU())

    def forward(self, patches: Tensor, valid: Tensor | None = None,
                mask: Tensor | None = None, coords: Tensor | None = None,
                genes: Tensor | None = None,
                has_genes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Aggregate bags with their genes.

        Args:
            patches: See :meth:`BagAggregator.forward`, as for ``valid``,
                ``mask`` and ``coords``.
            genes: Scaled expression, shape (B, G).
            has_genes: Shape (B, ), bool, False where a patient has none;
                None: all have.

        Returns:
            The patients' vectors, shape (B, d), and the patches' tokens,
            shape (B, N, d), zero at padding.

        Raises:
            ValueError: If a shape or a type does not fit, or there is a
                mask or no genes.
        """
        base.check_unmasked(self, mask)
        tokens = self.embed_patches(patches, valid)
        sets = self.embed_genes(genes, has_genes, len(patches))
        weights = self.co_attention(sets, tokens, valid)
        # Values are linear in the tokens: averaged first, projected once.
        seen = self.value(weighted_sum(weights, tokens))
        if valid is not None:
            seen = seen.masked_fill(~valid.any(dim=1)[:, None, None], 0)
        elif not tokens.shape[1]:
            seen = 0 * seen  # With a gradient.
        joined = torch.cat(
            [self.slide_transformer(seen), self.gene_transformer(sets)], dim=1)
        return self.join(joined), tokens

    def attention(self, patches: Tensor, valid: Tensor | None = None,
                  coords: Tensor | None = None, genes: Tensor | None = None,
                  has_genes: Tensor | None = None) -> Tensor:
        """How much each patch counts for each set of genes.

        Takes what :meth:`forward` takes. Gives (B, S, N), float32 or float64,
        zero at padding, with sum 1 over each bag.
        """
        tokens = self.embed_patches(patches, valid)
        sets = self.embed_genes(genes, has_genes, len(patches))
        return self.co_attention(sets, tokens, valid)

    def embed_genes(self, genes: Tensor | None, has_genes: Tensor | None,
                    batch_size: int) -> Tensor:
        """Make the tokens of the sets, (B, S, d); see :meth:`forward`."""
        check_shape('genes', genes, (batch_size, self.num_genes))
        sets = self.gene_tokens(genes)
        if has_genes is None:
            return sets
        return torch.where(has_genes[:, None, None], sets,
                           self.missing_genes.to(sets.dtype))

    def co_attention(self, sets: Tensor, tokens: Tensor,
                     valid: Tensor | None) -> Tensor:
        """Weights of the patches for each set, (B, S, N)."""
        # Keys are linear in the tokens: queries are brought to them, so
        # that no second tensor of all patches is made.
        # Scaled first: products of large features are beyond float16.
        query = self.query(sets) @ self.key.weight.to(sets.dtype)
        return masked_softmax(query / self.embed_dims**0.5
                              @ tokens.transpose(1, 2), valid)
