"""Where an image's content is, and where around it a crop is put.

ContrastiveCrop (Peng et al., "Crafting Better Contrastive Views for Siamese
Representation Learning", CVPR 2022, arXiv 2202.03278): semantic-aware
localisation and centre-suppressed sampling.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmedmask.functional.masking import boxes_of_masks
from mmmedmask.util.checks import check_range, check_shape

WHOLE_BOX = (0.0, 0.0, 1.0, 1.0)
# With alpha 1 half of the attempts are accepted, with 0.6 72 %.
BETA_ATTEMPTS = 32
BETA_DRAWS = 2 * BETA_ATTEMPTS


def heat_map_boxes(features: Tensor, image_size: tuple[int, int],
                   threshold: float = 0.1) -> Tensor:
    """Find the smallest box around the warm part of each feature map.

    The heat map of an image is the sum of its feature channels, brought to
    [0, 1] by its least and largest value and interpolated (bilinear) to the
    size of the image; what is above ``threshold`` is warm (section 3.2).

    Args:
        features: Last feature map of an encoder, shape (B, C, h, w).
        image_size: Size of the images that it saw as (H, W), in pixels.
        threshold: k of the paper, in [0, 1).

    Returns:
        Boxes (x0, y0, x1, y1) in fractions of the image, (B, 4), float32;
        the whole image where the map is the same everywhere, or no pixel is
        above the threshold.

    Raises:
        ValueError: If the shape or the threshold is out of range.

    Example:
        >>> features = torch.zeros(1, 1, 4, 4)
        >>> features[0, 0, 1, 2] = 1
        >>> heat_map_boxes(features, image_size=(4, 4))
        tensor([[0.5000, 0.2500, 0.7500, 0.5000]])
    """
    check_shape('features', features, ('B', 'C', 'h', 'w'))
    check_range('threshold', threshold, 0, 1, open_high=True)
    heat = features.float().sum(dim=1, keepdim=True)
    heat = heat - heat.amin(dim=(2, 3), keepdim=True)
    highest = heat.amax(dim=(2, 3), keepdim=True)
    heat = F.interpolate(
        heat / highest.where(highest > 0, highest.new_ones(())),
        size=image_size, mode='bilinear', align_corners=False)
    warm = heat[:, 0] > threshold
    boxes = boxes_of_masks(warm)
    boxes = boxes / boxes.new_tensor(image_size[::-1]).repeat(2)
    whole = boxes.new_tensor(WHOLE_BOX)
    return boxes.where(warm.flatten(1).any(dim=1)[:, None], whole)


def symmetric_beta(uniform: Tensor, alpha: float) -> Tensor:
    """Turn uniform numbers into draws from Beta(alpha, alpha).

    Joehnk's method: of pairs (u, v), the first one with u^(1/alpha) +
    v^(1/alpha) <= 1 gives u^(1/alpha) over that sum. Below 1, values near 0
    and 1 are more likely than those in the middle; alpha 1 is uniform.

    The result (B, ) is 0.5 if no pair is accepted, once in 4e9.

    Args:
        uniform: Numbers in [0, 1), shape (B, ``BETA_DRAWS``), float64.
        alpha: Both parameters of the distribution, in (0, 1].

    Raises:
        ValueError: If alpha is out of range.

    Example:
        >>> uniform = torch.full((1, BETA_DRAWS), .25, dtype=torch.float64)
        >>> symmetric_beta(uniform, alpha=1.)
        tensor([0.5000], dtype=torch.float64)
    """
    check_range('alpha', alpha, 0, 1, open_low=True)
    # As logarithms: the powers of a small alpha underflow.
    tiny = torch.finfo(uniform.dtype).tiny
    powers = uniform.view(-1, BETA_ATTEMPTS, 2).clamp_min(tiny).log() / alpha
    accepted = powers.logsumexp(dim=2) <= 0
    first = accepted.int().argmax(dim=1, keepdim=True)
    share = (powers[..., 0] - powers[..., 1]).sigmoid().gather(1, first)
    return share.where(accepted.any(dim=1, keepdim=True), 0.5)[:, 0]


def place_crop(share: float, length: int, side: int,
               region: tuple[float, float]) -> int:
    """Choose the first pixel of a crop along one axis.

    Its centre lies in the region, as far as the crop then lies in the image.

    Args:
        share: Where in the region, from 0 to 1, see :func:`symmetric_beta`.
        length: Side of the image in pixels.
        side: Side of the crop in pixels, at most ``length``.
        region: Begin and end of the region in fractions of the image.

    Example:
        >>> place_crop(.5, length=100, side=20, region=(.4, .8))
        50
    """
    first, last = (min(max(end * length - side / 2, 0),
                       length - side) for end in region)
    return round(first + (last - first) * share)
