"""What all patch aggregators ask of a batch of bags."""

import torch


def check_padded_bags(patches: torch.Tensor,
               valid: torch.Tensor | None,
               in_dims: int,
               mask: torch.Tensor | None = None) -> None:
    """Raise a ValueError if bags do not fit the model or each other.

    Args:
        patches: Patch features, shape (B, N, in_dims).
        valid: Shape (B, N), bool, False = padding; None: all are patches.
        in_dims: Dimensions of a feature that the model expects.
        mask: Shape (B, N), bool, 1 = masked; None: nothing is masked.

    Raises:
        ValueError: If a shape or a type does not fit.
    """
    if patches.ndim != 3 or patches.shape[2] != in_dims:
        raise ValueError(
            'patches must have the shape (B, N, in_dims) with in_dims='
            f'{in_dims}, got {tuple(patches.shape)}; in_dims is the '
            'size of the features on disk, which the encoder that made '
            'them determines')
    for name, flags in (('valid', valid), ('mask', mask)):
        if flags is None:
            continue
        if flags.dtype != torch.bool or flags.shape != patches.shape[:2]:
            raise ValueError(
                f'{name} must be bool of shape '
                f'{tuple(patches.shape[:2])}, got {flags.dtype} of '
                f'{tuple(flags.shape)}')


def without_padding(valid: torch.Tensor | None) -> torch.Tensor | None:
    """None where every patch is valid: then nothing needs to be moved."""
    return None if valid is None or valid.all() else valid
