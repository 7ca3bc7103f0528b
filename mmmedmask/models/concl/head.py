"""ConCL's loss: InfoNCE against a queue, over the pairs that exist."""

from mmengine.model import BaseModule
from torch import Tensor

from mmmedmask.functional.contrastive_losses import queue_contrast
from mmmedmask.models.layers.rank_means import count_of_ranks
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_positive


@MODELS.register_module()
class ConCLHead(BaseModule):
    """Mean InfoNCE over the pairs of all ranks.

    Ranks have different numbers of pairs; dividing by their mean makes DDP's
    average the mean over all pairs, as one process would have it.

    ``temperature`` is that of the softmax, a ValueError if not positive.
    """

    def __init__(self, temperature: float = 0.2) -> None:
        super().__init__()
        self.temperature = check_positive('temperature', temperature)

    def loss(self, query: Tensor, key: Tensor, queue: Tensor,
             valid: Tensor | None = None) -> Tensor:
        """Contrast queries with their keys; 0 if no pair counts.

        ``valid`` (N,), bool, says which pairs count. For the rest see
        :func:`~mmmedmask.functional.contrastive_losses.queue_contrast`.
        """
        losses = queue_contrast(query, key, queue, self.temperature)
        if valid is None:
            return losses.mean()
        weight = valid.to(losses.dtype)
        return (losses * weight).sum() / count_of_ranks(weight.sum())
