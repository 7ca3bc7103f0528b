"""Resample images, feature maps and masks through affine matrices.

An axis-aligned warp is separable: ``R_y z R_x^T`` with two small matrices of
hat-function weights, that is two batched matrix products. They are
deterministic forward and backward, while the backward pass of
``grid_sample`` adds atomically on a GPU. Rotated and sheared views need
``grid_sample``. Both give the same numbers where both apply.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmmedmask.functional.affine import shift_theta
from mmmedmask.functional.masking import extents

WARP_IMPLEMENTATIONS = ('auto', 'separable', 'grid')
# Values of an image's map from which on a CPU gains by leaving zeros out.
LARGE_MAP = 2**18


def _centres(length: int, like: Tensor) -> Tensor:
    """Centres of ``length`` cells in [-1, 1]."""
    index = torch.arange(length, dtype=like.dtype, device=like.device)
    return (2 * index + 1) / length - 1


def _distances(scale: Tensor, shift: Tensor, output_length: int,
               input_length: int, clamp: bool) -> tuple[Tensor, Tensor]:
    """How far output centres look from input cells, (B, output, input).

    And input cells per output cell, at least 1 (below, the view enlarges),
    (B, 1, 1). ``clamp`` keeps places between the outermost centres.
    """
    centres = _centres(output_length, scale)
    coordinate = scale[:, None] * centres + shift[:, None]
    position = ((coordinate + 1) * input_length - 1) / 2
    if clamp:
        position = position.clamp(0, input_length - 1)
    cells = torch.arange(input_length, dtype=scale.dtype, device=scale.device)
    support = (scale.abs() * input_length / output_length).clamp(min=1)
    return (position[:, :, None] - cells).abs(), support[:, None, None]


def hat_matrix(scale: Tensor, shift: Tensor, output_length: int,
               input_length: int, antialias: bool = False) -> Tensor:
    """Weights (B, output_length, input_length) of linear interpolation.

    Along one axis; rows sum to 1. Output centre ``v`` looks at input
    coordinate ``scale * v + shift``, both (B,) in normalised units;
    coordinates beyond the outermost centres take the border's value.
    ``antialias`` widens the hat where the output is coarser than the input,
    so that every input cell is looked at.

    Example:
        >>> hat_matrix(torch.ones(1), torch.zeros(1), 1, 2)
        tensor([[[0.5000, 0.5000]]])
    """
    distance, support = _distances(scale, shift, output_length, input_length,
                                   clamp=True)
    if not antialias:
        return (1 - distance).clamp(min=0)
    weights = (1 - distance / support).clamp(min=0)
    return weights / weights.sum(dim=-1, keepdim=True)


def _cubic_matrix(scale: Tensor, shift: Tensor, output_length: int,
                  input_length: int) -> Tensor:
    """Weights of bicubic interpolation, as Pillow has them.

    Arguments and result as those of :func:`hat_matrix`. Keys' kernel with
    a = -0.5 is widened where the output is coarser than the input, and cut
    off at the border of the image.
    """
    distance, support = _distances(scale, shift, output_length, input_length,
                                   clamp=False)
    distance = distance / support
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = torch.where(distance < 1, near,
                          torch.where(distance < 2, far, 0.0))
    return weights / weights.sum(dim=-1, keepdim=True)


def along_axes(matrix: Callable[..., Tensor], theta: Tensor,
               size: tuple[int, int],
               input_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Matrices (B, h, H) of rows and (B, w, W) of columns of boxes.

    ``matrix``, such as :func:`hat_matrix`, makes them for axis-aligned
    matrices ``theta`` (B, 3, 3), output (h, w) to input (H, W).

    Example:
        >>> rows, columns = along_axes(
        ...     hat_matrix, torch.eye(3)[None], (1, 2), (2, 2))
        >>> rows, columns.diagonal(dim1=1, dim2=2)
        (tensor([[[0.5000, 0.5000]]]), tensor([[1., 1.]]))
    """
    return tuple(
        matrix(theta[:, axis, axis], theta[:, axis, 2], length, input_length)
        for axis, length, input_length in zip((1, 0), size, input_size,
                                              strict=True))


def sampling_grid(theta: Tensor, size: tuple[int, int],
                  shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Input coordinates of every output place, for ``grid_sample``.

    Gives (x, y) in normalised units, (B, h, w, 2), for matrices ``theta``
    (B, 3, 3). Unlike ``torch.nn.functional.affine_grid``, which is a matrix
    product, it keeps their precision under autocast. ``shift`` (x, y) leads
    from the centres of output cells, whose ``size`` is (h, w), to the places.

    Example:
        >>> sampling_grid(torch.eye(3)[None], (1, 2))
        tensor([[[[-0.5000,  0.0000],
                  [ 0.5000,  0.0000]]]])
    """
    x = _centres(size[1], theta) + shift[0]
    y = _centres(size[0], theta)[:, None] + shift[1]
    columns = theta[:, :2, :, None, None]
    return (columns[:, :, 0] * x + columns[:, :, 1] * y
            + columns[:, :, 2]).permute(0, 2, 3, 1)


def inside_frame(theta: Tensor, size: tuple[int, int],
                 shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Where the place of :func:`sampling_grid` lies inside the input's frame.

    Gives (B, 1, h, w), 1 where ``|theta (v + shift)| <= 1`` in both axes,
    else 0, dtype of ``theta``.

    Example:
        >>> theta = torch.eye(3)[None]
        >>> theta[0, 0, 2] = 1.
        >>> inside_frame(theta, (1, 2))
        tensor([[[[1., 0.]]]])
    """
    # A ten-thousandth of a pixel absorbs rounding at the very edge.
    inside = sampling_grid(theta, size, shift).abs() <= 1 + 1e-6
    return inside.all(dim=3)[:, None].to(theta.dtype)


def resample(inputs: Tensor, theta: Tensor, size: tuple[int, int],
             separable: bool, antialias: bool = False) -> Tensor:
    """Sample images to (B, C, h, w); outside the frame the border is repeated.

    Args:
        inputs: Tensor of shape (B, C, H, W).
        theta: Matrices of shape (B, 3, 3), output to input, float32 or
            float64 (coordinates in half precision are wrong by pixels).
        size: Size of the output as (h, w).
        separable: Use two matrix products, which is right only if every
            matrix is axis-aligned; ``grid_sample`` otherwise.
        antialias: Look at every input pixel where a view shrinks the
            image. Only the separable path has it.

    Raises:
        ValueError: If ``antialias`` is asked for without ``separable``.

    Example:
        >>> images = torch.rand(1, 3, 4, 4)
        >>> resample(images, torch.eye(3)[None], (2, 8), separable=True).shape
        torch.Size([1, 3, 2, 8])
    """
    if separable:
        return separable_product(inputs, *along_axes(
            partial(hat_matrix, antialias=antialias), theta, size,
            inputs.shape[-2:]))
    if antialias:
        raise ValueError('antialias=True needs axis-aligned views '
                         '(separable=True), got separable=False')
    sampled = F.grid_sample(inputs.to(theta.dtype),
                            sampling_grid(theta, size), mode='bilinear',
                            padding_mode='border', align_corners=False)
    return sampled.to(inputs.dtype)


def resample_cubic(inputs: Tensor, theta: Tensor,
                   size: tuple[int, int]) -> Tensor:
    """Sample boxes of images bicubically, to (B, C, h, w).

    Values can overshoot those of the input. ``theta`` are axis-aligned
    matrices of boxes inside of the image, see :func:`resample`.

    Example:
        >>> images = torch.rand(1, 3, 4, 4)
        >>> resample_cubic(images, torch.eye(3)[None], (2, 8)).shape
        torch.Size([1, 3, 2, 8])
    """
    return separable_product(
        inputs, *along_axes(_cubic_matrix, theta, size, inputs.shape[-2:]))


def separable_product(inputs: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``rows @ inputs @ columns^T`` per channel, shape (B, C, h, w).

    Rows (B, h, H) and columns (B, w, W) get no gradient.

    Example:
        >>> ones = torch.ones(1, 1, 2, 2)
        >>> separable_product(ones, ones[0, :, :1], ones[0, :, :1])
        tensor([[[[4.]]]])
    """
    kind = inputs.device.type
    if inputs.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        inputs = inputs.to(torch.get_autocast_dtype(kind))
    return _SeparableProduct.apply(
        inputs, rows.to(inputs.dtype), columns.to(inputs.dtype))


class _SeparableProduct(torch.autograd.Function):
    """The product; its gradient is one, too, with transposed matrices."""

    @staticmethod
    def forward(ctx, inputs: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(rows, columns)
        return _separable_product(inputs, rows, columns)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows, columns = (factor.transpose(1, 2)
                         for factor in ctx.saved_tensors)
        return _separable_product(gradient, rows, columns), None, None


def _separable_product(inputs: Tensor, rows: Tensor, columns: Tensor
                       ) -> Tensor:
    # What lies innermost in memory stays innermost: the map is not copied.
    channels_last = inputs.is_contiguous(memory_format=torch.channels_last)
    if inputs.is_cpu and inputs[0].numel() >= LARGE_MAP:
        return _product_of_used_parts(inputs, rows, columns, channels_last)
    if channels_last:
        pixels = rows @ inputs.permute(0, 2, 3, 1).flatten(2)
        pixels = columns[:, None] @ pixels.unflatten(2, (-1, inputs.shape[1]))
        return pixels.permute(0, 3, 1, 2)
    pixels = torch.bmm(inputs.flatten(1, 2), columns.transpose(1, 2))
    return rows[:, None] @ pixels.unflatten(1, inputs.shape[1:3])


def _product_of_used_parts(inputs: Tensor, rows: Tensor, columns: Tensor,
                           channels_last: bool) -> Tensor:
    # Image by image, whose parts stay in the cache. Where views overlap in
    # part, or enlarge, the matrices are 0 for the other cells, which are left
    # out. All channels share a matrix without a copy for each.
    batch_size, channels = inputs.shape[:2]
    size = rows.shape[1], columns.shape[1]
    if channels_last:
        inputs = inputs.permute(0, 2, 3, 1)
        output = inputs.new_zeros(batch_size, *size, channels)
    else:
        output = inputs.new_zeros(batch_size, channels, *size)
    parts = zip(*(_used_ranges(matrices, dim) for matrices in (rows, columns)
                  for dim in (2, 1)), strict=True)
    for image, result, row, column, (to_y, y, to_x, x) in zip(
            inputs, output, rows, columns, parts, strict=True):
        row, column = row[to_y, y], column[to_x, x]
        if channels_last:
            half = torch.bmm(column.expand(y.stop - y.start, -1, -1),
                             image[y, x])
            result[to_y, to_x] = (row @ half.flatten(1)).unflatten(
                1, half.shape[1:])
        else:
            half = torch.bmm(image[:, y, x], column.T.expand(channels, -1, -1))
            result[:, to_y, to_x] = torch.bmm(
                row.expand(channels, -1, -1), half)
    return output.permute(0, 3, 1, 2) if channels_last else output


def _used_ranges(matrices: Tensor, dim: int) -> list[slice]:
    """Where each of (B, n, m) has values; ``dim`` is looked through."""
    return [slice(*ends) for ends in torch.stack(
        extents((matrices != 0).any(dim=dim)), dim=1).tolist()]


def warp_features(features: Tensor, theta: Tensor, separable: bool,
                  shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Move a feature map from the first view's grid to the second's, Eq. 4.

    Locations that the first view does not show are 0.

    Args:
        features: Tensor of shape (B, C, H, W), as the result.
        theta: Of :func:`~mmmedmask.functional.affine.relative_theta`, shape
            (B, 3, 3).
        separable: True if all matrices are axis-aligned.
        shift: (x, y) from cell centres to the centres of the receptive
            fields in normalised units; (0, 0) treats a feature as if it sat
            at the centre of its cell (the paper's literal form).

    Example:
        >>> features = torch.tensor([[[[1., 2.]]]])
        >>> mirror = torch.diag(torch.tensor([-1., 1., 1.]))[None]
        >>> warp_features(features, mirror, separable=True)
        tensor([[[[2., 1.]]]])
    """
    size = tuple(features.shape[-2:])
    inside = inside_frame(theta, size, shift)
    if not separable:
        warped = resample(features, shift_theta(theta, shift), size, False)
        return warped * inside.to(warped.dtype)
    # The frame is a rectangle in an axis-aligned view: rows and columns that
    # lie outside are struck out of the small matrices.
    rows, columns = along_axes(hat_matrix, shift_theta(theta, shift), size,
                               size)
    return separable_product(features,
                             rows * inside.amax(dim=3).transpose(1, 2),
                             columns * inside.amax(dim=2).transpose(1, 2))


def warp_mask(mask: Tensor, theta: Tensor, size: tuple[int, int]) -> Tensor:
    """Move a patch mask to the second view's pixels, ``t2(t1^-1(m))``.

    Sampling the patch grid (B, 1, h, w) itself with the nearest patch equals
    warping its pixel-resolution blow-up, and stays binary. Gives (B, 1, H, W)
    of the second view's ``size``: 1 where the pixel lies in a masked patch,
    0 where it is visible or outside the first view. ``theta`` (B, 3, 3) leads
    from the second view to the first.

    Example:
        >>> mirror = torch.diag(torch.tensor([-1., 1., 1.]))[None]
        >>> warp_mask(torch.tensor([[[[1., 0.]]]]), mirror, (1, 4))
        tensor([[[[0., 0., 1., 1.]]]])
    """
    return F.grid_sample(mask.to(theta.dtype), sampling_grid(theta, size),
                         mode='nearest', padding_mode='zeros',
                         align_corners=False)
