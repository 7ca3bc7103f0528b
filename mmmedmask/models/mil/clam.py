"""Clustering-constrained attention, with one branch or one per class.

Lu et al., "Data-efficient and weakly supervised computational pathology on
whole-slide images", Nature Biomedical Engineering 2021.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmedmask.functional.smooth_svm import smooth_top1_svm
from mmmedmask.models.mil.base import AttentionScores, BagAggregator
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_choice, check_integer, check_range

INSTANCE_LOSSES = ('svm', 'ce')


class CLAM(BagAggregator):
    """Attention whose extremes train classifiers of single patches.

    Of a bag, the B patches with the largest scores are taken for evidence of
    its class, the B with the smallest for no evidence; with exclusive classes,
    the B largest are not evidence of the others. A classifier per class learns
    this from the tokens. Bags of fewer than 2 B patches use half of their
    patches for each, so that none is both; bags of one patch teach nothing.

    Args:
        in_dims: See :class:`BagAggregator`.
        num_classes: Classes, K.
        embed_dims: See :class:`BagAggregator`.
        attention_dims: Dimensions of the hidden layer that scores patches.
        num_instances: Patches of each kind, B.
        exclusive_classes: Whether a patch can be evidence of one class alone
            (CLAM's ``subtyping``).
        instance_loss: ``'svm'``, the smooth support vector machine of the
            paper, or ``'ce'``, cross-entropy.
        instance_weight: Weight of this loss; the paper's is 0.3, with 0.7
            for the head's.
        options: Further arguments of :class:`BagAggregator`.
    """

    def __init__(self, in_dims: int, num_classes: int,
                 embed_dims: int | None = 512, attention_dims: int = 256,
                 num_instances: int = 8, exclusive_classes: bool = True,
                 instance_loss: str = 'svm', instance_weight: float = 0.3,
                 **options) -> None:
        super().__init__(in_dims, embed_dims, **options)
        self.num_classes = check_integer('num_classes', num_classes)
        self.num_instances = check_integer('num_instances', num_instances)
        self.exclusive_classes = exclusive_classes
        self.instance_loss = check_choice('instance_loss', instance_loss,
                                          INSTANCE_LOSSES)
        self.instance_weight = check_range('instance_weight',
                                           instance_weight, 0)
        self.scores = AttentionScores(self.embed_dims, attention_dims,
                                      num_classes if self.class_wise else 1)
        # Two scores for each class: not this class, this class.
        self.instance_fc = nn.Linear(self.embed_dims, 2 * num_classes)

    def auxiliary_losses(self, tokens: Tensor, valid: Tensor | None,
                         labels: Tensor) -> dict:
        """The loss of the patches' classifiers.

        Tokens (B, N, d) are those of :meth:`forward`, labels (B, ), int64.
        Gives ``loss_instance``: the mean over a bag's patches of each
        classifier, over its classifiers, and over the bags that teach
        something.
        """
        bags, places, classes, targets, shares = self.choose(
            tokens, valid, labels)
        logits = self.instance_fc(tokens[bags, places]).unflatten(1, (-1, 2))
        logits = logits[torch.arange(len(bags), device=bags.device), classes]
        if self.instance_loss == 'svm':
            losses = smooth_top1_svm(logits, targets)
        else:
            with torch.autocast(logits.device.type, enabled=False):
                losses = F.cross_entropy(
                    logits.to(shares.dtype), targets, reduction='none')
        return dict(loss_instance=self.instance_weight *
                    (losses * shares).sum())

    @torch.no_grad()
    def choose(self, tokens: Tensor, valid: Tensor | None,
               labels: Tensor) -> tuple[Tensor, ...]:
        """Choose patches and guess their labels.

        Takes what :meth:`auxiliary_losses` takes. Gives bag, place in it,
        class and target (1 = evidence) of M patches, int64, and their shares
        of the loss, all of shape (M, ). M does not depend on the bags' sizes,
        so that the host need not wait for them: what a small bag has too many
        has a share of 0.
        """
        scores = self.scores(tokens)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        num_bags, num_patches = tokens.shape[:2]
        own = labels[:, None]
        classes = torch.arange(self.num_classes, device=tokens.device).expand(
            num_bags, -1) if self.exclusive_classes else own
        counts = torch.full_like(labels, num_patches) if valid is None \
            else valid.sum(dim=1)
        sizes = (counts // 2).clamp(max=self.num_instances)
        most = min(self.num_instances, num_patches // 2)
        places = torch.cat([
            self._extremes(scores, valid, classes, most, True),
            self._extremes(scores, valid, own, most, False)], dim=1)
        targets = torch.cat(
            [classes == own, torch.zeros_like(own, dtype=torch.bool)], dim=1)
        # Each bag teaches as much, as does each classifier in it, in which
        # the bag's own class has two kinds of patches.
        parts = (sizes > 0).sum() * sizes[:, None] * classes.shape[1]
        classes = torch.cat([classes, own], dim=1)
        parts = parts * (1 + (classes == own).long())
        shares = parts.clamp(min=1).to(scores.dtype).reciprocal()
        kept = torch.arange(most, device=tokens.device) < sizes[:, None, None]
        bags = torch.arange(num_bags, device=tokens.device)[:, None, None]
        return tuple(part.expand_as(places).flatten() for part in (
            bags, places, classes[..., None], targets[..., None].long(),
            shares[..., None] * kept))

    def _extremes(self, scores: Tensor, valid: Tensor | None, classes: Tensor,
                  most: int, largest: bool) -> Tensor:
        """Places (B, C, most) of extreme scores of ``classes``, best first."""
        rows = classes if self.class_wise else torch.zeros_like(classes)
        chosen = scores.gather(
            1, rows[..., None].expand(-1, -1, scores.shape[2]))
        if valid is not None:
            chosen = chosen.masked_fill(
                ~valid[:, None], -torch.inf if largest else torch.inf)
        return chosen.topk(most, largest=largest).indices


@MODELS.register_module()
class CLAM_SB(CLAM):  # noqa: N801
    """CLAM with one attention branch; see :class:`CLAM`."""


@MODELS.register_module()
class CLAM_MB(CLAM):  # noqa: N801
    """CLAM with an attention branch, and a vector, for each class; see
    :class:`CLAM`.
    """

    class_wise = True
