"""Masking that follows a map: partitions of tokens, and maps for crops.

The masking of MSMAE (arXiv 2305.05871, Eq. 6 and 7): tokens are drawn one
after the other without replacement, with probabilities in proportion to
their weights (a Plackett-Luce order). The first are masked, the next thrown
away, the rest stay visible.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mmmedmask.functional.masking import floor_share
from mmmedmask.util.checks import check_range

# A token of weight 0 is drawn after all others, but not never: it gets this
# share of the mean weight, so that the order is always defined.
WEIGHT_FLOOR = 1e-6


class TokenCounts(NamedTuple):
    """How many tokens of an image go where.

    Masked ones are hidden from the encoder and reconstructed by the decoder;
    thrown ones are seen by neither.

    Example:
        >>> sum(TokenCounts(masked=88, thrown=59, visible=49))
        196
    """

    masked: int
    thrown: int
    visible: int


class TokenPartition(NamedTuple):
    """Which tokens go where: ids (B, M), (B, T) and (B, V), ascending.

    They count the grid row by row.

    Example:
        >>> partition = TokenPartition(*map(torch.tensor, (
        ...     [[1]], [[2]], [[0, 3]])))
        >>> partition.flags()
        tensor([[ 0,  1, -1,  0]])
    """

    masked: Tensor
    thrown: Tensor
    visible: Tensor

    def flags(self) -> Tensor:
        """Say of each token: 1 = masked, -1 = thrown, 0 = visible, (B, L)."""
        flags = torch.zeros_like(torch.cat(self, dim=1))
        return flags.scatter_(1, self.masked, 1).scatter_(1, self.thrown, -1)


def token_counts(num_patches: int, mask_ratio: float,
                 throw_ratio: float) -> TokenCounts:
    """How many tokens of an image are masked, thrown and visible, Eq. 7.

    Both bounds, r L and (r + t) L, are rounded down. A ValueError if a ratio
    is negative, or no token would stay visible.

    Example:
        >>> token_counts(196, mask_ratio=.45, throw_ratio=.3)
        TokenCounts(masked=88, thrown=59, visible=49)
    """
    masked = floor_share(num_patches, check_range('mask_ratio', mask_ratio, 0))
    gone = floor_share(
        num_patches, mask_ratio + check_range('throw_ratio', throw_ratio, 0))
    if gone >= num_patches:
        raise ValueError(
            f'mask_ratio {mask_ratio} and throw_ratio {throw_ratio} leave '
            f'none of {num_patches} tokens visible; their sum must be below 1')
    return TokenCounts(masked, gone - masked, num_patches - gone)


def plackett_luce_order(weights: Tensor, noise: Tensor) -> Tensor:
    """Draw all tokens without replacement, likely ones first, Eq. 6.

    An exponential race: the token with the largest ``weight / noise`` comes
    first. Given independent exponential noise, the first token is drawn with
    probability ``weight / sum``, and each next one so among those left. Gives
    ids (B, L), int64; rows without any positive weight, or with one that is
    not finite, are ordered by the noise alone.

    Args:
        weights: Shape (B, L), not negative; only ratios matter.
        noise: Shape (B, L), exponentially distributed with mean 1.

    Example:
        >>> plackett_luce_order(torch.tensor([[1., 8., 4.]]), torch.ones(1, 3))
        tensor([[1, 2, 0]])
    """
    with torch.autocast(weights.device.type, enabled=False):
        weights = weights.float()
        mean = weights.mean(dim=1, keepdim=True)
        usable = mean.isfinite() & (mean > 0)
        weights = torch.where(usable, weights, 1.0)
        floor = WEIGHT_FLOOR * torch.where(usable, mean, 1.0)
        race = weights.clamp_min(floor) / noise.float().clamp_min(
            torch.finfo(torch.float32).tiny)
    return race.argsort(dim=1, descending=True, stable=True)


def partition_tokens(weights: Tensor, noise: Tensor, mask_ratio: float,
                     throw_ratio: float,
                     visible_first: bool = False) -> TokenPartition:
    """Mask, throw away or keep each token, Eq. 7.

    The numbers are those of :func:`token_counts`, the order is that of
    :func:`plackett_luce_order`; equal weights are random masking.
    ``visible_first`` reads the order from its end: tokens that are drawn
    early stay visible, late ones are masked.

    Example:
        >>> weights = torch.tensor([[1., 8., 4., 2.]])
        >>> partition_tokens(weights, torch.ones(1, 4), .25, .25).flags()
        tensor([[ 0,  1, -1,  0]])
    """
    counts = token_counts(weights.shape[1], mask_ratio, throw_ratio)
    order = plackett_luce_order(weights, noise)
    if visible_first:
        order = order.flip(1)
    # A transformer does not care for the order of its tokens; sorted, r = t
    # = 0 is an encoder without masking, bit for bit.
    return TokenPartition(
        *(ids.sort(dim=1).values for ids in order.split(list(counts), dim=1)))


def _resampling_matrix(starts: Tensor, ends: Tensor, num_targets: int,
                       num_sources: int, samples: int) -> Tensor:
    """Linear interpolation along one axis, averaged over target cells.

    ``samples`` points per target cell read the sources between ``starts`` and
    ``ends`` (B, ); rows of (B, num_targets, num_sources) sum to 1.
    """
    points = torch.arange(
        num_targets * samples, dtype=starts.dtype, device=starts.device)
    points = (points + 0.5) / (num_targets * samples)
    places = starts[:, None] + (ends - starts)[:, None] * points
    places = (places * num_sources - 0.5).clamp(0, num_sources - 1)
    sources = torch.arange(
        num_sources, dtype=starts.dtype, device=starts.device)
    # The hat function of each source centre.
    weights = (1 - (places[..., None] - sources).abs()).clamp_min(0)
    return weights.unflatten(1, (num_targets, samples)).mean(dim=2)


def map_to_patches(maps: Tensor, boxes: Tensor, flips: Tensor,
                   grid_size: tuple[int, int], samples: int = 16) -> Tensor:
    """Read the map of a whole image at a crop's tokens, (B, rows * columns).

    Bilinear interpolation between the centres of the map's cells, averaged
    over each token's area: what the paper describes as interpolating to the
    image, cropping with it and patching, without the image-sized map.

    Args:
        maps: Shape (B, gh, gw).
        boxes: Crops (x0, y0, x1, y1) in fractions of the image, (B, 4).
        flips: Whether the crop was mirrored left-right and top-bottom, bool,
            (B, 2).
        grid_size: Tokens of the crop as (rows, columns).
        samples: Points per token and axis.

    Example:
        >>> maps = torch.tensor([[[0., 1.], [2., 3.]]])
        >>> whole = torch.tensor([[0., 0., 1., 1.]])
        >>> mirrored = torch.tensor([[True, False]])
        >>> map_to_patches(maps, whole, mirrored, (1, 1))
        tensor([[1.5000]])
    """
    starts, ends = boxes.to(maps.dtype).split(2, dim=1)
    # A mirrored crop is read from its far side.
    starts, ends = ends.where(flips, starts), starts.where(flips, ends)
    horizontal, vertical = (
        _resampling_matrix(starts[:, axis], ends[:, axis], grid_size[1 - axis],
                           maps.shape[2 - axis], samples) for axis in (0, 1))
    with torch.autocast(maps.device.type, enabled=False):
        return (vertical @ maps @ horizontal.transpose(1, 2)).flatten(1)
