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


def crop_theta(top: Tensor, left: Tensor, height: Tensor, width: Tensor,
               image_size: tuple[int, int], flip: Tensor) -> Tensor:
    """Matrix of a resized crop that may be flipped left to right.

    Args:
        top: First row of each crop in pixels, shape (B,).
        left: First column, shape (B,).
        height: Rows of the crop, shape (B,).
        width: Columns of the crop, shape (B,).
        image_size: Size of the cropped image as (h, w).
        flip: True where the view is mirrored left to right, shape (B,).

    Returns:
        theta of shape (B, 3, 3), float64. Its off-diagonal terms are 0.

    Example:
        >>> one = torch.ones(1)
        >>> crop_theta(0 * one, 4 * one, 8 * one, 4 * one, (8, 8), one > 2)[0]
        tensor([[0.5000, 0.0000, 0.5000],
                [0.0000, 1.0000, 0.0000],
                [0.0000, 0.0000, 1.0000]], dtype=torch.float64)
    """
    image_height, image_width = image_size
    top, left, height, width = (
        value.double() for value in (top, left, height, width))
    sign = 1 - 2 * flip.double()
    theta = torch.zeros(len(top), 3, 3, dtype=torch.float64)
    theta[:, 0, 0] = sign * width / image_width
    theta[:, 0, 2] = (2 * left + width) / image_width - 1
    theta[:, 1, 1] = height / image_height
    theta[:, 1, 2] = (2 * top + height) / image_height - 1
    theta[:, 2, 2] = 1
    return theta


def pixel_theta(matrix: Tensor, output_size: tuple[int, int],
                input_size: tuple[int, int]) -> Tensor:
    """Normalise a matrix that acts on pixels measured from the centre.

    Rotations and shears have to be built in pixels: in normalised
    coordinates they would distort images that are not square.

    Args:
        matrix: Maps centred output pixels to centred input pixels, shape
            (B, 3, 3).
        output_size: Size of the view as (h, w).
        input_size: Size of the image as (h, w).

    Example:
        >>> bool((pixel_theta(torch.eye(3)[None], (4, 8), (4, 8)) ==
        ...       torch.eye(3)).all())
        True
    """
    to_pixels = matrix.new_tensor([output_size[1] / 2, output_size[0] / 2, 1])
    to_unit = matrix.new_tensor([2 / input_size[1], 2 / input_size[0], 1])
    return to_unit[:, None] * matrix * to_pixels[None, :]


def invert_affine(theta: Tensor) -> Tensor:
    """Invert affine matrices (B, 3, 3) in closed form, without a device sync.

    Args:
        theta: Shape (B, 3, 3), last row (0, 0, 1).

    Example:
        >>> theta = torch.diag(torch.tensor([2., 4., 1.]))[None]
        >>> invert_affine(theta)[0].diag()
        tensor([0.5000, 0.2500, 1.0000])
    """
    a, b, c, d = (theta[:, 0, 0], theta[:, 0, 1], theta[:, 1, 0], theta[:, 1,
                                                                        1])
    determinant = a * d - b * c
    linear = torch.stack([d, -b, -c, a], dim=-1).view(-1, 2, 2)
    linear = linear / determinant[:, None, None]
    inverse = torch.zeros_like(theta)
    inverse[:, :2, :2] = linear
    inverse[:, :2, 2] = -(linear * theta[:, None, :2, 2]).sum(dim=-1)
    inverse[:, 2, 2] = 1
    return inverse


def relative_theta(theta1: Tensor, theta2: Tensor) -> Tensor:
    """Matrix of ``t2(t1^-1(.))``, CMIM Eq. 4.

    With ``(t x)(p) = x(theta p)`` the composition samples
    ``z(theta1^-1 theta2 p)``: the order of the factors is this one, and the
    swapped one is wrong.

    Args:
        theta1: Matrices of t1, shape (B, 3, 3).
        theta2: Matrices of t2, shape (B, 3, 3).

    Returns:
        Matrices of shape (B, 3, 3) that map coordinates of the second view
        to coordinates of the first.

    Example:
        >>> theta = torch.diag(torch.tensor([2., 4., 1.]))[None]
        >>> bool((relative_theta(theta, theta) == torch.eye(3)).all())
        True
    """
    inverse = invert_affine(theta1)
    return (inverse[:, :, :, None] * theta2[:, None]).sum(dim=2)


def shift_theta(theta: Tensor, shift: tuple[float, float]) -> Tensor:
    """Express a matrix in coordinates whose origin is shifted.

    Feature j of a level sits at the centre of its receptive field, which
    lies ``shift`` beside the centre of its cell. Conjugating with that
    constant moves the sampling into cell coordinates:
    ``t + (A - I) shift``.

    Args:
        theta: Shape (B, 3, 3), between image coordinates.
        shift: (x, y) from cell centre to receptive-field centre, in
            normalised units; see :func:`receptive_field_shift`.

    Returns:
        Shape (B, 3, 3), between cell coordinates.

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
    """Tell whether no view of a batch is rotated or sheared.

    Args:
        theta: Shape (B, 3, 3). Keep it on the CPU: reading it from a device
            waits for that device.

    Returns:
        True if all off-diagonal terms of the linear parts are exactly 0.

    Example:
        >>> is_axis_aligned(torch.eye(3)[None])
        True
    """
    return not bool(theta[:, [0, 1], [1, 0]].any())
