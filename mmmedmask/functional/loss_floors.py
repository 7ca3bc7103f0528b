"""What a reconstruction loss is worth: the losses of guesses without a model.

A guess here is one colour per image. Its squared error needs three sums per
image and channel, so the floors of any number of images are exact and cheap.
"""

from typing import NamedTuple

import torch
from torch import Tensor

RIDGE = 1e-6
"""Share of the mean variance that keeps the regression solvable."""


class TargetSums(NamedTuple):
    """Sums over the pixels of each image that a loss counts.

    Attributes:
        weight: Sum of the weights, shape (N,).
        total: Weighted sum of the target per channel, shape (N, C).
        square: Weighted sum of its square per channel, shape (N, C).
        visible: What can be seen of the image, shape (N, F).
    """

    weight: Tensor
    total: Tensor
    square: Tensor
    visible: Tensor


def target_sums(target: Tensor, weight: Tensor, image: Tensor,
                mask: Tensor) -> TargetSums:
    """Sum up a batch, in float64.

    Args:
        target: What is to be predicted, shape (B, C, H, W).
        weight: Where the loss counts, shape (B, 1, H, W), in [0, 1].
        image: What the model sees, shape (B, C, h, w).
        mask: 1 = masked, shape (B, 1, h, w).

    Returns:
        The sums; ``visible`` has mean and standard deviation of each channel
        over the pixels that are not masked, F = 2 C.

    Example:
        >>> import torch
        >>> image, mask = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
        >>> target_sums(image, 1 - mask, image, mask).weight
        tensor([4.], dtype=torch.float64)
    """
    target, weight = target.double(), weight.double()
    image, seen = image.double(), 1 - mask.double()
    area = seen.sum(dim=(2, 3)).clamp_min(1)
    mean = (image * seen).sum(dim=(2, 3)) / area
    centred = (image - mean[..., None, None])**2
    deviation = ((centred * seen).sum(dim=(2, 3)) / area).sqrt()
    return TargetSums(
        weight=weight.sum(dim=(1, 2, 3)),
        total=(target * weight).sum(dim=(2, 3)),
        square=(target**2 * weight).sum(dim=(2, 3)),
        visible=torch.cat([mean, deviation], dim=1))


def join_sums(parts: list[TargetSums]) -> TargetSums:
    """Join the sums of several batches.

    Example:
        >>> import torch
        >>> one = TargetSums(*(torch.ones(2, 1) for _ in range(4)))
        >>> join_sums([one, one]).total.shape
        torch.Size([4, 1])
    """
    return TargetSums(*(torch.cat(values)
                        for values in zip(*parts, strict=True)))


def guess_loss(sums: TargetSums, guess: Tensor) -> float:
    """Mean squared error of one colour per image.

    Args:
        sums: The images.
        guess: The colours, shape (N, C), or (1, C) for all images.

    Returns:
        The error, averaged over all weighted pixels and channels; NaN if no
        pixel counts.

    Example:
        >>> import torch
        >>> sums = TargetSums(*(torch.tensor([[v]]) for v in (2., 6., 20., 0)))
        >>> guess_loss(sums._replace(weight=sums.weight[0]),
        ...            torch.tensor([[3.]]))
        1.0
    """
    weight = sums.weight[:, None]
    error = sums.square - 2 * guess * sums.total + guess**2 * weight
    return float(error.sum() / (weight.sum() * sums.total.shape[1]))


def loss_floors(fit: TargetSums, held_out: TargetSums) -> dict[str, float]:
    """Losses of three guesses on held-out images.

    Args:
        fit: Images that guesses may learn from, at least one with a pixel
            that counts.
        held_out: Images to guess.

    Returns:
        ``constant``: the mean target of ``fit``; ``color``: a linear
        regression of the image's mean target on what is visible of it,
        fitted on ``fit``; ``own_mean``: each image's true mean target, which
        no model is told.

    Raises:
        ValueError: If no pixel counts.

    Example:
        >>> import torch
        >>> images = torch.rand(8, 3, 4, 4)
        >>> mask = (torch.rand(8, 1, 4, 4) > 0.5).float()
        >>> sums = target_sums(images, mask, images, mask)
        >>> sorted(loss_floors(sums, sums))
        ['color', 'constant', 'own_mean']
    """
    for name, sums in (('fit', fit), ('held_out', held_out)):
        if not sums.weight.sum() > 0:
            raise ValueError(f'the loss counts no pixel of the '
                             f'{len(sums.weight)} images of {name}')
    constant = fit.total.sum(dim=0, keepdim=True) / fit.weight.sum()
    own = held_out.total / held_out.weight[:, None].clamp_min(1e-12)
    return dict(
        constant=guess_loss(held_out, constant),
        color=guess_loss(held_out, _color_guess(fit, held_out.visible)),
        own_mean=guess_loss(held_out, own))


def _color_guess(fit: TargetSums, visible: Tensor) -> Tensor:
    """Weighted least squares of the mean target on what is visible."""
    def with_constant(values: Tensor) -> Tensor:
        return torch.cat([values, torch.ones_like(values[:, :1])], dim=1)

    design = with_constant(fit.visible)
    gram = design.T @ (design * fit.weight[:, None])
    ridge = RIDGE * gram.diagonal().mean()
    gram = gram + ridge * torch.eye(len(gram), dtype=gram.dtype)
    return with_constant(visible) @ torch.linalg.solve(
        gram, design.T @ fit.total)
