"""Runs of a slide's patches, and which patches of a run are masked.

Masked patch modelling of GiMP (MICCAI 2023, section 2.3): a contiguous run of
L patches, of which a share is masked. Slides with fewer patches are repeated
in order up to L; copies of a patch are then masked together, because one left
visible would give the other away. In a mask 1 = masked.
"""

import torch

# 400 * 0.29 is 115.99999999999999 in floats.
ROUNDING = 1e-6


def contiguous_run(num_patches: int, length: int,
                   uniform: float) -> tuple[int, int]:
    """Choose where a run of a slide's patches begins and ends.

    Args:
        num_patches: Patches of the slide.
        length: Patches that the run should have, L.
        uniform: A number in [0, 1); the start is uniform among all possible
            ones if it is.

    Returns:
        Start and stop, so that ``patches[start:stop]`` is the run. It has
        ``min(length, num_patches)`` patches; see :func:`repeat_in_order` for
        slides that are too short.

    Raises:
        ValueError: If there is no patch, ``length`` is below 1, or
            ``uniform`` is outside [0, 1).
    """
    check_counts(num_patches, length)
    if not 0 <= uniform < 1:
        raise ValueError(f'uniform must be in [0, 1), got {uniform}')
    if num_patches <= length:
        return 0, num_patches
    start = int(uniform * (num_patches - length + 1))
    return start, start + length


def repeat_in_order(num_patches: int, length: int) -> torch.Tensor:
    """Which patch stands where, if few are repeated up to a length.

    Args:
        num_patches: Patches that there are.
        length: Places to fill, L.

    Returns:
        Shape (L, ), int64: 0, 1, ..., num_patches - 1, 0, 1, ...

    Raises:
        ValueError: If there is no patch or no place.
    """
    check_counts(num_patches, length)
    return torch.arange(length) % num_patches


def draw_sequence_mask(length: int,
                       ratio: float,
                       generator: torch.Generator,
                       unique: int | None = None) -> torch.Tensor:
    """Draw which patches of a run are masked.

    Args:
        length: Patches of the run, L.
        ratio: Share to mask, r in [0, 1].
        generator: Where the randomness comes from, on the CPU.
        unique: Different patches in the run, repeated in order as
            :func:`repeat_in_order` does; copies are masked together. None,
            or at least ``length``: all differ.

    Returns:
        Shape (L, ), bool. Exactly ``floor(r * L)`` are masked, or with
        copies ``floor(r * unique)`` of the different patches.

    Raises:
        ValueError: If ``ratio`` is outside [0, 1] or a count is below 1.
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f'ratio must be in [0, 1], got {ratio}')
    count = length if unique is None else min(unique, length)
    check_counts(count, length)
    noise = torch.rand(count, generator=generator, dtype=torch.float64)
    mask = torch.zeros(count, dtype=torch.bool)
    mask[noise.argsort(stable=True)[:int(ratio * count + ROUNDING)]] = True
    return mask[repeat_in_order(count, length)]


def check_counts(num_patches: int, length: int) -> None:
    """Raise a ValueError if there is no patch or no place."""
    if num_patches < 1:
        raise ValueError(
            f'a run needs at least 1 patch, got {num_patches}')
    if length < 1:
        raise ValueError(f'a run must have at least 1 place, got {length}')
