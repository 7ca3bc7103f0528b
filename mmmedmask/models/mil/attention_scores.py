"""The two-layer network that scores patches in ABMIL, CLAM and MCAT."""

import torch
from torch import nn

from mmmedmask.models.mil.base import check_positive


class AttentionScores(nn.Module):
    """Ilse et al., equation 8 (``w tanh(V h)``), or 9 with a gate.

    Args:
        embed_dims: Dimensions of a patch's token, d.
        hidden_dims: Dimensions inside.
        num_scores: Scores of a patch, K.
        gated: Whether ``tanh(V h)`` is multiplied by ``sigmoid(U h)``.

    Raises:
        ValueError: If ``hidden_dims`` is below 1.
    """

    def __init__(self, embed_dims: int, hidden_dims: int,
                 num_scores: int = 1, gated: bool = True) -> None:
        super().__init__()
        check_positive(hidden_dims=hidden_dims)
        self.hidden = nn.Linear(embed_dims, hidden_dims)
        self.gate = nn.Linear(embed_dims, hidden_dims) if gated else None
        # A constant would leave the softmax over patches as it is.
        self.score = nn.Linear(hidden_dims, num_scores, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Score patches.

        Args:
            tokens: Shape (B, N, d).

        Returns:
            Shape (B, K, N).
        """
        hidden = self.hidden(tokens).tanh()
        if self.gate is not None:
            hidden = hidden * self.gate(tokens).sigmoid()
        return self.score(hidden).transpose(1, 2)
