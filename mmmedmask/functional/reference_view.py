"""ConCL's reference view: the smallest box around both crops, bicubic."""

import torch
from torch import Tensor

from mmmedmask.functional.views import Crops
from mmmedmask.functional.warp import normalised_centres, separable_product


def union_crops(first: Crops, second: Crops) -> Crops:
    """Smallest boxes that hold two crops each, not flipped.

    Example:
        >>> one = torch.ones(1).long()
        >>> first = Crops(0 * one, 2 * one, 4 * one, 4 * one, one > 2)
        >>> second = Crops(3 * one, 0 * one, 4 * one, 4 * one, one > 0)
        >>> union_crops(first, second).height
        tensor([7])
    """
    top = torch.minimum(first.top, second.top)
    left = torch.minimum(first.left, second.left)
    bottom = torch.maximum(first.top + first.height,
                           second.top + second.height)
    right = torch.maximum(first.left + first.width, second.left + second.width)
    return Crops(top=top, left=left, height=bottom - top, width=right - left,
                 flip=torch.zeros_like(first.flip))


def keys_cubic(distance: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -0.5, which Pillow's BICUBIC is.

    Args:
        distance: Distances from the sampled place in input cells.

    Returns:
        Weights of the same shape, 0 from a distance of 2 on.

    Example:
        >>> keys_cubic(torch.tensor([0., 1., 1.5, 2.]))
        tensor([ 1.0000,  0.0000, -0.0625,  0.0000])
    """
    distance = distance.abs()
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))


def cubic_matrix(scale: Tensor, shift: Tensor, output_length: int,
                 input_length: int) -> Tensor:
    """Weights of bicubic interpolation along one axis, as Pillow has them.

    The kernel is widened where the output is coarser than the input, and
    cut off at the border of the image.

    Args:
        scale: Shape (B,); output centre ``v`` looks at ``scale * v + shift``
            in normalised units of the input.
        shift: Shape (B,).
        output_length: Cells of the output.
        input_length: Cells of the input.

    Returns:
        Shape (B, output_length, input_length); rows sum to 1.

    Example:
        >>> cubic_matrix(torch.ones(1), torch.zeros(1), 2, 2)
        tensor([[[1., 0.],
                 [0., 1.]]])
    """
    centres = normalised_centres(output_length, scale)
    coordinate = scale[:, None] * centres + shift[:, None]
    position = ((coordinate + 1) * input_length - 1) / 2
    cells = torch.arange(input_length, dtype=scale.dtype, device=scale.device)
    support = (scale.abs() * input_length / output_length).clamp(min=1)
    weights = keys_cubic(
        (position[:, :, None] - cells) / support[:, None, None])
    return weights / weights.sum(dim=-1, keepdim=True)


def resample_cubic(inputs: Tensor, theta: Tensor,
                   size: tuple[int, int]) -> Tensor:
    """Sample boxes of images bicubically.

    Args:
        inputs: Tensor of shape (B, C, H, W).
        theta: Axis-aligned matrices of boxes inside of the image, shape
            (B, 3, 3), output to input, float32 or float64.
        size: Size of the output as (h, w).

    Returns:
        Tensor of shape (B, C, h, w), dtype of ``inputs``. Values can
        overshoot those of the input.

    Example:
        >>> images = torch.rand(1, 3, 4, 4)
        >>> resample_cubic(images, torch.eye(3)[None], (2, 8)).shape
        torch.Size([1, 3, 2, 8])
    """
    height, width = inputs.shape[-2:]
    rows = cubic_matrix(theta[:, 1, 1], theta[:, 1, 2], size[0], height)
    columns = cubic_matrix(theta[:, 0, 0], theta[:, 0, 2], size[1], width)
    return separable_product(inputs, rows.to(inputs.dtype),
                             columns.to(inputs.dtype))
