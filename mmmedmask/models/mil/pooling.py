"""Mean and largest value of a bag's patches: the floor for all others."""

import torch
from torch import Tensor

from mmmedmask.functional.bags import masked_max, masked_mean, masked_softmax
from mmmedmask.models.mil.base import BagAggregator
from mmmedmask.registry import MODELS


@MODELS.register_module()
class MeanPool(BagAggregator):
    """The mean of the patches; arguments as :class:`BagAggregator`."""

    def pool(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        """Average; see the base class."""
        return masked_mean(tokens, valid).to(tokens.dtype)

    def weights(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        """All alike; see the base class."""
        return masked_softmax(torch.zeros_like(tokens[..., 0])[:, None], valid)


@MODELS.register_module()
class MaxPool(BagAggregator):
    """The largest value of the patches in each dimension.

    Arguments as :class:`BagAggregator`.
    """

    def pool(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        """Take the largest; see the base class."""
        return masked_max(tokens, valid)

    def weights(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        """The share of dimensions in which a patch, or a tie, is largest."""
        hits = tokens == masked_max(tokens, valid)[:, None]
        if valid is not None:
            hits = hits & valid[..., None]
        hits = hits.to(torch.promote_types(tokens.dtype, torch.float32))
        shares = hits / hits.sum(dim=1, keepdim=True).clamp(min=1)
        return shares.mean(dim=2)[:, None]
