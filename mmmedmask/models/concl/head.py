"""ConCL's loss: InfoNCE against a queue, over the pairs that exist."""

from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModule
from torch import Tensor

from mmmedmask.functional.contrastive_losses import queue_contrast
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_positive


@MODELS.register_module()
class ConCLHead(BaseModule):
    """Mean InfoNCE over the pairs of all ranks.

    Ranks have different numbers of pairs; dividing by their mean makes DDP's
    average the mean over all pairs, as one process would have it.

    Args:
        temperature: Temperature of the softmax.

    Raises:
        ValueError: If ``temperature`` is not positive.
    """

    def __init__(self, temperature: float = 0.2) -> None:
        super().__init__()
        self.temperature = check_positive('temperature', temperature)

    def loss(self, query: Tensor, key: Tensor, queue: Tensor,
             valid: Tensor | None = None) -> Tensor:
        """Contrast queries with their keys, to a scalar; 0 if no pair counts.

        Args:
            query: Shape (N, D), of unit length.
            key: Positives, shape (N, D), of unit length.
            queue: Negatives, shape (L, D).
            valid: Which pairs count, bool, shape (N,); None counts all.
        """
        losses = queue_contrast(query, key, queue, self.temperature)
        if valid is None:
            return losses.mean()
        weight = valid.to(losses.dtype)
        pairs = weight.sum()
        all_reduce(pairs)
        pairs = pairs.clamp(min=1) / get_world_size()
        return (losses * weight).sum() / pairs
