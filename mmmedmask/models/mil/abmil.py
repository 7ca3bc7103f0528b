"""Attention-based multiple instance learning.

Ilse, Tomczak, Welling, "Attention-based Deep Multiple Instance Learning",
ICML 2018.
"""

from mmmedmask.models.mil.base import AttentionScores, BagAggregator
from mmmedmask.registry import MODELS


@MODELS.register_module()
class ABMIL(BagAggregator):
    """A bag is the mean of its patches, weighed by attention (equation 7).

    Args:
        attention_dims: Dimensions of the hidden layer that scores patches.
        gated: Whether it has a gate (equation 9).
        options: Further arguments of :class:`BagAggregator`.
    """

    def __init__(self, in_dims: int, embed_dims: int | None = 512,
                 attention_dims: int = 128, gated: bool = True,
                 **options) -> None:
        super().__init__(in_dims, embed_dims, **options)
        self.scores = AttentionScores(
            self.embed_dims, attention_dims, gated=gated)
