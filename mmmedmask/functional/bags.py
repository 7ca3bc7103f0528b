"""Bags of patches: checks, runs and their masks, pooling without padding.

Masked patch modelling of GiMP (MICCAI 2023, section 2.3) takes a contiguous
run of L patches of a slide and masks a share of them. Slides with fewer
patches are repeated in order up to L; copies of a patch are then masked
together, because one left visible would give the other away. In a mask
1 = masked. ``valid`` (B, N), bool, is False at padding; None: all are patches.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmmedmask.functional.masking import floor_share
from mmmedmask.util.checks import check_integer, check_range, check_shape

# Pixels from one slide of a patient to the next: more than any slide has.
SLIDE_PITCH = 1 << 32
# Row of a patch of which the file does not say where it lies.
NO_PLACE = -1


def check_padded_bags(patches: Tensor, valid: Tensor | None, in_dims: int,
                      mask: Tensor | None = None) -> None:
    """Check that bags (B, N, in_dims) fit a model and each other.

    A ValueError if a shape or a type, also of ``mask`` (B, N), bool, does not.

    Example:
        >>> check_padded_bags(torch.rand(2, 5, 8), None, in_dims=8)
    """
    check_shape('patches', patches, ('B', 'N', in_dims), f'in_dims={in_dims} '
                'is the size of the features on disk, which the encoder that '
                'made them determines')
    for name, flags in (('valid', valid), ('mask', mask)):
        if flags is not None and (flags.dtype != torch.bool
                                  or flags.shape != patches.shape[:2]):
            raise ValueError(
                f'{name} must be bool of shape {tuple(patches.shape[:2])}, '
                f'got {flags.dtype} of {tuple(flags.shape)}')


def without_padding(valid: Tensor | None) -> Tensor | None:
    """Return None where every patch is valid: then nothing has to move.

    Example:
        >>> without_padding(torch.ones(2, 5, dtype=torch.bool)) is None
        True
    """
    return None if valid is None or valid.all() else valid


def lay_slides_apart(coords: Sequence[Tensor | int]) -> Tensor:
    """Lay the slides of a patient beside each other, (sum of N_i, 2), int64.

    x grows by 2^32 from slide to slide, so that what reads any rows of the
    bag sees where a slide ends, and no patch of another slide is near.

    Args:
        coords: Pixel positions (x, y) of each slide's patches, shape
            (N_i, 2), int64; a number of patches where they are not known,
            which get x = 0, y = -1.

    Raises:
        ValueError: If a position is outside of [0, 2^32).

    Example:
        >>> lay_slides_apart([torch.tensor([[5, 7]]), 1]) - torch.tensor(
        ...     [[0, 0], [SLIDE_PITCH, 0]])
        tensor([[ 5,  7],
                [ 0, -1]])
    """
    laid = []
    for number, slide in enumerate(coords):
        if isinstance(slide, int):
            slide = torch.tensor([[0, NO_PLACE]]).expand(slide, 2)
        elif len(slide) and not (0 <= slide.min() and
                                 slide.max() < SLIDE_PITCH):
            raise ValueError(
                'coords must be pixel positions in [0, 2^32), got '
                f'{int(slide.min())} to {int(slide.max())} on slide {number}')
        laid.append(slide + slide.new_tensor([number * SLIDE_PITCH, 0]))
    return torch.cat(laid)


def slide_lengths(coords: Tensor) -> list[int]:
    """Count the patches of each slide of a bag.

    ``coords`` (N, 2) are of :func:`lay_slides_apart`, or part of its rows.

    Example:
        >>> slide_lengths(lay_slides_apart([2, 3])[1:])
        [1, 3]
    """
    numbers = coords[:, 0].div(SLIDE_PITCH, rounding_mode='floor')
    return numbers.unique_consecutive(return_counts=True)[1].tolist()


def places_known(coords: Tensor, valid: Tensor | None = None) -> bool:
    """Say whether it is known of all patches where they lie.

    ``coords`` (..., 2) are of :func:`lay_slides_apart`, ``valid`` is (...).

    Example:
        >>> places_known(lay_slides_apart([torch.tensor([[5, 7]]), 1]))
        False
    """
    unknown = coords[..., 1] == NO_PLACE
    return not (unknown if valid is None else unknown & valid).any()


def masked_softmax(scores: Tensor, valid: Tensor | None) -> Tensor:
    """Softmax of scores (B, K, N) over the valid patches of each bag.

    In float32 or float64; zero at padding, with sum 1 over each bag that has
    a patch.

    Example:
        >>> masked_softmax(torch.zeros(1, 1, 3),
        ...                torch.tensor([[True, True, False]]))
        tensor([[[0.5000, 0.5000, 0.0000]]])
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if valid is None:
        return scores.softmax(dim=-1)
    valid = valid[:, None]
    # Not -inf: an empty bag would be NaN, in its gradient too.
    scores = scores.masked_fill(~valid, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1).masked_fill(~valid, 0)


def weighted_sum(weights: Tensor, tokens: Tensor) -> Tensor:
    """Sum tokens (B, N, d) with weights (B, K, N), to (B, K, d).

    Tokens must be finite at padding, too.

    Example:
        >>> weighted_sum(torch.tensor([[[.5, .5]]]), torch.eye(2)[None])
        tensor([[[0.5000, 0.5000]]])
    """
    return weights.to(tokens.dtype) @ tokens


def masked_mean(tokens: Tensor, valid: Tensor | None) -> Tensor:
    """Mean (B, d) of the valid tokens (B, N, d), float32 or float64.

    Tokens have to be zero at padding; so is the mean of an empty bag.

    Example:
        >>> masked_mean(torch.tensor([[[4.], [2.], [0.]]]),
        ...             torch.tensor([[True, True, False]]))
        tensor([[3.]])
    """
    total = tokens.sum(
        dim=1, dtype=torch.promote_types(tokens.dtype, torch.float32))
    if valid is None:
        return total / max(tokens.shape[1], 1)
    return total / valid.sum(dim=1, keepdim=True).clamp(min=1)


def masked_max(tokens: Tensor, valid: Tensor | None) -> Tensor:
    """Largest value (B, d) of the valid tokens (B, N, d), zero for none.

    Example:
        >>> masked_max(torch.tensor([[[1., 5.], [2., 3.]]]), None)
        tensor([[2., 5.]])
    """
    if not tokens.shape[1]:
        return tokens.sum(dim=1)
    if valid is None:
        return tokens.amax(dim=1)
    lowest = torch.finfo(tokens.dtype).min
    largest = tokens.masked_fill(~valid[..., None], lowest).amax(dim=1)
    return torch.where(valid.any(dim=1, keepdim=True), largest, 0)


def contiguous_run(num_patches: int, length: int,
                   uniform: float) -> tuple[int, int]:
    """Choose where a run of a slide's patches begins and ends.

    ``patches[start:stop]`` has ``min(length, num_patches)`` patches. The start
    is uniform among all possible ones if ``uniform``, in [0, 1), is. A
    ValueError if a count is below 1 or ``uniform`` outside [0, 1).

    Example:
        >>> contiguous_run(num_patches=10, length=4, uniform=.5)
        (3, 7)
    """
    check_integer('num_patches', num_patches)
    check_integer('length', length)
    check_range('uniform', uniform, 0, 1, open_high=True)
    if num_patches <= length:
        return 0, num_patches
    start = int(uniform * (num_patches - length + 1))
    return start, start + length


def draw_sequence_mask(length: int, ratio: float, generator: torch.Generator,
                       unique: int | None = None) -> Tensor:
    """Draw which patches of a run are masked, bool (L, ).

    Exactly ``floor(r * L)`` are masked, or with copies ``floor(r * unique)``
    of the different patches.

    Args:
        length: Patches of the run, L.
        ratio: Share to mask, r in [0, 1].
        generator: Where the randomness comes from, on the CPU.
        unique: Different patches in the run, repeated in order; copies are
            masked together. None, or at least ``length``: all differ.

    Raises:
        ValueError: If ``ratio`` is outside [0, 1] or a count is below 1.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> int(draw_sequence_mask(10, .5, generator).sum())
        5
    """
    check_range('ratio', ratio, 0, 1)
    check_integer('length', length)
    count = length if unique is None else check_integer(
        'unique', min(unique, length))
    noise = torch.rand(count, generator=generator, dtype=torch.float64)
    mask = torch.zeros(count, dtype=torch.bool)
    mask[noise.argsort(stable=True)[:floor_share(count, ratio)]] = True
    return mask[torch.arange(length) % count]
