"""Loss of MSMAE's lesion segmentation: Dice and binary cross-entropy.

Equation 9 of MSMAE (arXiv 2305.05871). mmseg's own Dice loss takes the
background for the target when a model has one output channel, and so pulls
against the cross-entropy.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_positive, check_range

# s, added to numerator and denominator of each image's Dice.
SMOOTH = 1e-5


@MODELS.register_module()
class BCEDiceLoss(nn.Module):
    r"""Dice loss plus weighted binary cross-entropy, for one channel.

    With the probabilities p = sigmoid(score) and the target t,

    .. math::
        L = w_{dice} \Big(1 - \frac{1}{B} \sum_{b=1}^{B}
            \frac{2 \sum p_b t_b + s}{\sum p_b + \sum t_b + s}\Big)
            + w_{bce}\, \mathrm{mean}(\mathrm{bce})

    Dice is computed per image; the cross-entropy is the mean over all pixels
    of the batch. An image without a lesion has no Dice loss if nothing is
    predicted in it. All sums are in float32.

    For SETR's auxiliary heads, whose loss counts 0.4, give both weights times
    0.4. A ValueError if a weight is negative, or both are 0.

    Args:
        bce_weight: Weight of the cross-entropy, Eq. 9's lambda.
    """

    # mmseg trains on losses whose name begins so.
    loss_name = 'loss_bce_dice'

    def __init__(self, bce_weight: float = 0.5,
                 dice_weight: float = 1.0) -> None:
        super().__init__()
        self.bce_weight = check_range('bce_weight', bce_weight, 0)
        self.dice_weight = check_range('dice_weight', dice_weight, 0)
        check_positive('the sum of bce_weight and dice_weight',
                       bce_weight + dice_weight)

    def forward(self, cls_score: Tensor, label: Tensor,
                weight: Tensor | None = None,
                ignore_index: int | None = 255) -> Tensor:
        """Compute the loss of a batch, a float32 scalar; 0 if no pixel counts.

        Args:
            cls_score: Logits of the lesion, shape (B, 1, H, W).
            label: 1 in the lesion, 0 outside, integers of shape (B, H, W).
            weight: Weights of the pixels, at least 0, shape (B, H, W); both
                parts of the loss are weighted.
            ignore_index: Label of pixels that do not count; None counts all.
        """
        if cls_score.shape != (len(label), 1, *label.shape[1:]):
            raise ValueError(
                'cls_score must have the shape (B, 1, H, W) and label (B, H, '
                f'W), got {tuple(cls_score.shape)} and {tuple(label.shape)}')
        scores = cls_score[:, 0].float()
        counted = torch.ones_like(label, dtype=torch.bool)
        if ignore_index is not None:
            counted = label != ignore_index
        _check_binary(label[counted], ignore_index)
        weight = counted.float() if weight is None else counted * weight
        # Not the ignored label, whatever its number.
        target = (label * counted).float()
        return (self.dice_weight * self._dice(scores, target, weight) +
                self.bce_weight * self._bce(scores, target, weight))

    def _dice(self, scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        probability = scores.sigmoid()
        shared = (weight * probability * target).sum(dim=(1, 2))
        total = (weight * (probability + target)).sum(dim=(1, 2))
        return (1 - (2 * shared + SMOOTH) / (total + SMOOTH)).mean()

    @staticmethod
    def _bce(scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        entropy = F.binary_cross_entropy_with_logits(
            scores, target, reduction='none')
        # No pixel that counts has no loss, rather than NaN.
        total = weight.sum()
        return (entropy * weight).sum() / torch.where(total > 0, total, 1.0)


def _check_binary(labels: Tensor, ignore_index: int | None) -> None:
    wrong = labels[(labels != 0) & (labels != 1)]
    if wrong.numel():
        valid = '0 and 1' if ignore_index is None \
            else f'0, 1 and {ignore_index} (ignored)'
        raise ValueError(f'labels must be {valid}, got '
                         f'{wrong.unique().tolist()[:8]}')
