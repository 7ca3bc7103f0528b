"""Masked patch modelling of GiMP: a light decoder, and L1 on the masked."""

import torch
from mmengine.model import BaseModule
from torch import nn

from mmmedmask.models.gimp.losses import check_reduction, masked_l1
from mmmedmask.registry import MODELS

# Keeps the variance of a constant feature vector positive.
VARIANCE_EPSILON = 1e-6


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
        init_cfg: Initialisation.

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(self,
                 in_dims: int,
                 out_dims: int,
                 depth: int = 1,
                 norm_target: bool = False,
                 reduction: str = 'mean',
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(
            init_cfg or dict(type='TruncNormal', layer='Linear', std=0.02))
        for name, value in (('in_dims', in_dims), ('out_dims', out_dims),
                            ('depth', depth)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        check_reduction(reduction)
        self.in_dims = in_dims
        self.out_dims = out_dims
        self.norm_target = norm_target
        self.reduction = reduction
        hidden = [layer for _ in range(depth - 1)
                  for layer in (nn.Linear(in_dims, in_dims), nn.GELU())]
        self.decoder = nn.Sequential(
            nn.LayerNorm(in_dims), *hidden, nn.Linear(in_dims, out_dims))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Decode tokens.

        Args:
            tokens: Shape (..., d).

        Returns:
            Shape (..., D); with ``norm_target`` in normalised units.
        """
        return self.decoder(tokens)

    def target(self, patches: torch.Tensor) -> torch.Tensor:
        """What is to be predicted.

        Args:
            patches: Patch features, shape (..., D).

        Returns:
            The same shape, float32 or float64.
        """
        patches = patches.to(
            torch.promote_types(patches.dtype, torch.float32))
        if not self.norm_target:
            return patches
        variance, mean = torch.var_mean(
            patches, dim=-1, keepdim=True, correction=0)
        return (patches - mean) / (variance + VARIANCE_EPSILON).sqrt()

    def loss(self, tokens: torch.Tensor, patches: torch.Tensor,
             mask: torch.Tensor) -> torch.Tensor:
        """Eq. 3. Only masked patches are decoded.

        Args:
            tokens: The aggregator's output, shape (B, N, d).
            patches: The features before masking, shape (B, N, D).
            mask: Shape (B, N), bool, 1 = masked; False at padding.

        Returns:
            A float32 or float64 scalar; 0 if nothing is masked.
        """
        return masked_l1(
            self(tokens[mask]), self.target(patches[mask]), len(tokens),
            self.reduction)
