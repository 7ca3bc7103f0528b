"""What bag classifiers share: embedding and attention scores."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmedmask.functional import bags
from mmmedmask.models.layers.feature_norm import FeatureNorm
from mmmedmask.util.checks import check_integer, check_rate


class AttentionScores(nn.Module):
    """Scores of patches in ABMIL, CLAM and MCAT: a network of two layers.

    Ilse et al., equation 8 (``w tanh(V h)``), or 9 with a gate, where
    ``tanh(V h)`` is multiplied by ``sigmoid(U h)``.
    """

    def __init__(self, embed_dims: int, hidden_dims: int,
                 num_scores: int = 1, gated: bool = True) -> None:
        super().__init__()
        check_integer('attention_dims', hidden_dims)
        self.hidden = nn.Linear(embed_dims, hidden_dims)
        self.gate = nn.Linear(embed_dims, hidden_dims) if gated else None
        # A constant would leave the softmax over patches as it is.
        self.score = nn.Linear(hidden_dims, num_scores, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score patches: tokens (B, N, d) to (B, K, N)."""
        hidden = self.hidden(tokens).tanh()
        if self.gate is not None:
            hidden = hidden * self.gate(tokens).sigmoid()
        return self.score(hidden).transpose(1, 2)


class BagAggregator(BaseModule):
    """Base of aggregators that embed patches one by one and pool them.

    Padding is never embedded: its content does not matter, whatever it is.
    Subclasses have ``scores``, or write :meth:`pool` and :meth:`weights`, and
    may have

    - ``auxiliary_losses(tokens, valid, labels) -> dict`` of losses that are
      added in training, with ``num_classes``;
    - ``instance_logits(tokens, valid) -> (B, K)``, scores of the classes
      from a stream of their own, whose mean with the head's is the
      prediction, with ``num_classes`` and ``instance_weight``, the weight of
      their loss.

    Args:
        in_dims: Dimensions of the patch features, D.
        embed_dims: Dimensions that a linear layer with ReLU and dropout brings
            them to, d; None: the features are used as they are, and d is D.
        drop_rate: Dropout of the embedded patches.
        norm_features: Whether features are first scaled by their mean and
            variance over the training bags, see
            :class:`~mmmedmask.models.layers.feature_norm.FeatureNorm`.
        init_cfg: Initialisation.

    Attributes:
        class_wise: Whether there is a vector for each class.
        uses_genes: Whether ``forward`` takes genes.
        permutation_invariant: Whether the order of patches makes no
            difference.
    """

    class_wise = False
    uses_genes = False
    permutation_invariant = True

    def __init__(self, in_dims: int, embed_dims: int | None = 512,
                 drop_rate: float = 0.25, norm_features: bool = False,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg or dict(
            type='Xavier', layer='Linear', distribution='normal'))
        self.in_dims = check_integer('in_dims', in_dims)
        self.embed_dims = in_dims if embed_dims is None \
            else check_integer('embed_dims', embed_dims)
        self.feature_norm = FeatureNorm(
            in_dims) if norm_features else nn.Identity()
        layers = [] if embed_dims is None else [
            nn.Linear(in_dims, embed_dims), nn.ReLU()]
        self.embed = nn.Sequential(
            *layers, nn.Dropout(check_rate('drop_rate', drop_rate)))

    def forward(self, patches: Tensor, valid: Tensor | None = None,
                mask: Tensor | None = None,
                coords: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Aggregate bags.

        Args:
            patches: Patch features, shape (B, N, D).
            valid: Shape (B, N), bool, False = padding; None: all are
                patches. A bag may be empty.
            mask: Must be None: nothing stands for a masked patch.
            coords: Not looked at.

        Returns:
            The slides' vectors, shape (B, d), or (B, K, d) if
            ``class_wise``, and the patches' tokens, shape (B, N, d), zero at
            padding.

        Raises:
            ValueError: If a shape or a type does not fit, or there is a
                mask.
        """
        check_unmasked(self, mask)
        tokens = self.embed_patches(patches, valid)
        return self.pool(tokens, valid), tokens

    def attention(self, patches: Tensor, valid: Tensor | None = None,
                  coords: Tensor | None = None) -> Tensor:
        """How much each patch counts, for heat maps.

        Takes what :meth:`forward` takes. Gives (B, N), or (B, K, N) if
        ``class_wise``, float32 or float64, zero at padding, with sum 1 over
        each bag.
        """
        weights = self.weights(self.embed_patches(patches, valid), valid)
        return weights if self.class_wise else weights[:, 0]

    def embed_patches(self, patches: Tensor, valid: Tensor | None) -> Tensor:
        """Embed each patch by itself: (B, N, D) to (B, N, d), 0 at padding."""
        bags.check_padded_bags(patches, valid, self.in_dims)
        valid = bags.without_padding(valid)
        tokens = patches.flatten(0, 1) if valid is None else patches[valid]
        tokens = self.embed(self.feature_norm(tokens))
        if valid is None:
            return tokens.unflatten(0, patches.shape[:2])
        padded = tokens.new_zeros(*valid.shape, self.embed_dims)
        padded[valid] = tokens
        return padded

    def pool(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        """Make a bag's vector of its tokens (B, N, d), zero at padding.

        Shape (B, d), or (B, K, d) if ``class_wise``; ``valid`` (B, N) is
        bool, or None.
        """
        vectors = bags.weighted_sum(self.weights(tokens, valid), tokens)
        return vectors if self.class_wise else vectors[:, 0]

    def weights(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        """How much each of the tokens (B, N, d) counts.

        Shape (B, K, N), with K = 1 unless ``class_wise``, zero at padding,
        with sum 1 over each bag that has a patch.
        """
        return bags.masked_softmax(self.scores(tokens), valid)


def check_unmasked(module: BaseModule, mask: Tensor | None) -> None:
    """Raise a ValueError if patches are masked."""
    if mask is not None:
        raise ValueError(
            f'{type(module).__name__} has nothing that stands for a masked '
            'patch: leave GenerateSequenceMask out of the pipeline, got a '
            f'mask of shape {tuple(mask.shape)}')
