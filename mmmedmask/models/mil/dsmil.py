"""Dual-stream multiple instance learning.

Li, Li, Eliceiri, "Dual-stream Multiple Instance Learning Network for Whole
Slide Image Classification with Self-supervised Contrastive Learning", CVPR
2021, section 3.2.
"""

import torch
from torch import Tensor, nn

from mmmedmask.functional.bags import masked_max, masked_softmax
from mmmedmask.models.mil.base import BagAggregator
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_integer, check_range


@MODELS.register_module()
class DSMIL(BagAggregator):
    """Patches weighed by their similarity to each class's critical patch.

    The first stream scores every patch; the largest score of a class is the
    bag's, and its patch is the critical one. In the second, the patches'
    values are averaged with weights ``softmax(<q_i, q_critical> / sqrt(d_q))``
    (without the root in the paper), and the head scores the result. Both
    streams have a loss, and the prediction is the mean of their scores.

    Args:
        num_classes: Classes, K.
        query_dims: Dimensions of the queries, d_q.
        instance_weight: Weight of the first stream's loss, which is the
            head's of other logits, with its class weights.
        options: Further arguments of :class:`BagAggregator`.
    """

    class_wise = True

    def __init__(self, in_dims: int, num_classes: int,
                 embed_dims: int | None = 512, query_dims: int = 128,
                 instance_weight: float = 1.0, **options) -> None:
        super().__init__(in_dims, embed_dims, **options)
        check_integer('query_dims', query_dims)
        self.num_classes = check_integer('num_classes', num_classes)
        self.instance_weight = check_range('instance_weight',
                                           instance_weight, 0)
        self.instance_fc = nn.Linear(self.embed_dims, num_classes)
        self.query = nn.Linear(self.embed_dims, query_dims)
        self.value = nn.Linear(self.embed_dims, self.embed_dims, bias=False)

    def pool(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        """The second stream; see the base class."""
        # Values are linear in the tokens: averaged first, projected once.
        return self.value(super().pool(tokens, valid))

    def weights(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        """Similarity to each class's critical patch; see the base class."""
        scores, query = self.instance_fc(tokens).detach(), self.query(tokens)
        if not tokens.shape[1]:
            # Distributed training waits for the gradient of the queries.
            return masked_softmax(
                scores.transpose(1, 2) + query.sum(dim=2)[:, None], valid)
        if valid is not None:
            scores = scores.masked_fill(~valid[..., None], -torch.inf)
        critical = scores.argmax(dim=1)
        bags = torch.arange(len(tokens), device=tokens.device)[:, None]
        # Scaled first: products of large features are beyond float16.
        scaled = query[bags, critical] / query.shape[2]**0.5
        return masked_softmax(scaled @ query.transpose(1, 2), valid)

    def instance_logits(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        """The first stream: the largest score of a patch for each class.

        From tokens (B, N, d) to (B, K); zero for an empty bag.
        """
        return masked_max(self.instance_fc(tokens), valid)
