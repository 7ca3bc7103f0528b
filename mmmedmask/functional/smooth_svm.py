"""The smooth support vector machine, a loss that forgives wrong labels.

Berrada, Zisserman, Kumar, "Smooth Loss Functions for Deep Top-k
Classification", ICLR 2018, for k = 1. CLAM trains its instance classifiers
with it, whose labels are guesses.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmedmask.util.checks import check_positive, check_range


def smooth_top1_svm(logits: Tensor, labels: Tensor, margin: float = 1.0,
                    temperature: float = 1.0) -> Tensor:
    """Smooth multi-class hinge loss (equation 9 of the paper).

    ``t log sum_j exp((margin [j != y] + s_j - s_y) / t)``: cross-entropy
    whose wrong classes have a head start. At temperature 0 it is the hinge
    loss.

    Gives a loss for each row, shape (M, ), float32 or float64.

    Args:
        logits: Scores s, shape (M, K).
        labels: Classes y, shape (M, ), int64.
        margin: By how much the score of the class should lead, at least 0.
        temperature: Smoothness, t, above 0.

    Raises:
        ValueError: If ``margin`` or ``temperature`` is out of range.

    Example:
        >>> logits = torch.tensor([[3., 0.], [0., 3.]])
        >>> smooth_top1_svm(logits, torch.tensor([0, 0]), temperature=.01)
        tensor([0., 4.])
    """
    check_positive('temperature', temperature)
    check_range('margin', margin, 0)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    wrong = 1 - F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    own = logits.gather(1, labels[:, None])
    gaps = margin * wrong + logits - own
    return temperature * (gaps / temperature).logsumexp(dim=1)
