"""Affine views as 3x3 matrices.

A view is stored as ``theta`` that maps normalised OUTPUT coordinates to
normalised INPUT coordinates, which is what sampling wants. -1 and 1 are the
outer edges of the outermost pixels (``align_corners=False`` everywhere), so
one matrix serves an image, its mask and feature maps of every resolution.
Coordinates are ordered (x, y, 1).

Matrices are multiplied entry by entry, never with ``@``: autocast would turn
a matrix product into half precision and TF32 would cut it to 10 bits, which
moves coordinates by pixels.
"""

import torch
from torch import Tensor


def invert_affine(theta: Tensor) -> Tensor:
    """Invert affine matrices (B, 3, 3) in closed form, without a device sync.

    Example:
        >>> theta = torch.diag(torch.tensor([2., 4., 1.]))[None]
        >>> invert_affine(theta)[0].diag()
        tensor([0.5000, 0.2500, 1.0000])
    """
    a, b, c, d = theta[:, :2, :2].flatten(1).unbind(dim=1)
    determinant = a * d - b * c
    linear = torch.stack([d, -b, -c, a], dim=-1).view(-1, 2, 2)
    linear = linear / determinant[:, None, None]
    inverse = torch.zeros_like(theta)
    inverse[:, :2, :2] = linear
    inverse[:, :2, 2] = -(linear * theta[:, None, :2, 2]).sum(dim=-1)
    inverse[:, 2, 2] = 1
    return inverse


def relative_theta(theta1: Tensor, theta2: Tensor) -> Tensor:
    """Matrices (B, 3, 3) of ``t2(t1^-1(.))``, CMIM Eq. 4.

    They map coordinates of the second view to those of the first: with
    ``(t x)(p) = x(theta p)`` the composition samples ``z(theta1^-1 theta2 p)``
    in this order of the factors, not in the swapped one.

    Example:
        >>> theta = torch.diag(torch.tensor([2., 4., 1.]))[None]
        >>> bool((relative_theta(theta, theta) == torch.eye(3)).all())
        True
    """
    inverse = invert_affine(theta1)
    return (inverse[:, :, :, None] * theta2[:, None]).sum(dim=2)


def shift_theta(theta: Tensor, shift: tuple[float, float]) -> Tensor:
    """Take matrices (B, 3, 3) from image to cell coordinates.

    Feature j of a level sits at the centre of its receptive field, which
    lies ``shift`` (x, y) beside the centre of its cell, in normalised units
    (see :func:`receptive_field_shift`). Conjugating with that constant moves
    the sampling into cell coordinates: ``t + (A - I) shift``.

    Example:
        >>> mirror = torch.diag(torch.tensor([-1., 1., 1.]))[None]
        >>> shift_theta(mirror, (.25, 0.))[0, 0]
        tensor([-1.0000,  0.0000, -0.5000])
    """
    # Numbers, not a tensor: making one on a GPU would wait for it.
    x, y = shift
    shifted = theta.clone()
    shifted[:, 0, 2] += (theta[:, 0, 0] - 1) * x + theta[:, 0, 1] * y
    shifted[:, 1, 2] += theta[:, 1, 0] * x + (theta[:, 1, 1] - 1) * y
    return shifted


def receptive_field_shift(offset: float, stride: int,
                          image_size: tuple[int, int]) -> tuple[float, float]:
    """(x, y), normalised, from a cell's centre to that of what it sees.

    Args:
        offset: Pixel index at which the receptive field of feature 0 is
            centred: 0 for a ResNet (padded 7/2, 3/2 and 3/1 convolutions),
            ``(stride - 1) / 2`` for patches that do not overlap.
        stride: Stride of the level in pixels.
        image_size: Size of the input as (h, w).

    Example:
        >>> receptive_field_shift(offset=0, stride=32, image_size=(64, 128))
        (-0.2421875, -0.484375)
    """
    pixels = 2 * offset + 1 - stride
    return pixels / image_size[1], pixels / image_size[0]


def is_axis_aligned(theta: Tensor) -> bool:
    """Tell whether no view of a batch (B, 3, 3) is rotated or sheared at all.

    Keep ``theta`` on the CPU: reading it from a device waits for that device.

    Example:
        >>> is_axis_aligned(torch.eye(3)[None])
        True
    """
    return not bool(theta[:, [0, 1], [1, 0]].any())
