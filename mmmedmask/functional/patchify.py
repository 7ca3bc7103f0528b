"""Images to rows of patches and back, and the positions of patches."""

import torch
from torch import Tensor

from mmmedmask.util.checks import check_multiple

# Targets of reconstruction: pixels, normalised per patch, or per patch and
# channel.
NORM_PIX = (False, True, 'channel')


def patch_grid_size(size: tuple[int, int],
                    patch_size: tuple[int, int]) -> tuple[int, int]:
    """Count the patches (rows, columns) of an image; both sizes are (h, w).

    A ValueError if the patches do not divide the image.

    Example:
        >>> patch_grid_size((32, 48), (16, 16))
        (2, 3)
    """
    size, patch_size = tuple(size), tuple(patch_size)
    if any(side % patch for side, patch in zip(size, patch_size, strict=True)):
        raise ValueError(
            f'patch_size {patch_size} does not divide the image size {size}')
    return size[0] // patch_size[0], size[1] // patch_size[1]


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images (B, C, H, W) into square patches (B, L, patch_size**2 * C).

    Patches row by row, inside a patch pixels row by row with their channels
    together. A ValueError if the patch size does not divide the image.

    Example:
        >>> patchify(torch.arange(4.).view(1, 1, 2, 2), patch_size=1).flatten()
        tensor([0., 1., 2., 3.])
    """
    batch_size, channels, height, width = images.shape
    rows, columns = patch_grid_size((height, width), (patch_size, ) * 2)
    images = images.reshape(batch_size, channels, rows, patch_size, columns,
                            patch_size)
    return images.permute(0, 2, 4, 3, 5, 1).reshape(
        batch_size, rows * columns, patch_size**2 * channels)


def gather_patches(images: Tensor, patch_ids: Tensor,
                   patch_size: tuple[int, int]) -> Tensor:
    """Cut out some patches of images (B, C, H, W), (B, M, C, h, w).

    Ids (B, M) count row by row, ``patch_size`` is (h, w) in pixels. A
    ValueError if the patch size does not divide the image.

    Example:
        >>> images = torch.arange(4.).view(1, 1, 2, 2)
        >>> gather_patches(images, torch.tensor([[3, 0]]), (1, 1)).flatten()
        tensor([3., 0.])
    """
    cells, places = _patch_cells(images, patch_ids, patch_size)
    return cells[places]


def scatter_patches(images: Tensor, patch_ids: Tensor,
                    patches: Tensor) -> Tensor:
    """Put patches into copies of images: undo :func:`gather_patches`.

    Example:
        >>> images, ids = torch.zeros(1, 1, 1, 2), torch.tensor([[1]])
        >>> scatter_patches(images, ids, torch.ones(1, 1, 1, 1, 1))
        tensor([[[[0., 1.]]]])
    """
    images = images.clone()
    cells, places = _patch_cells(images, patch_ids, tuple(patches.shape[-2:]))
    # A view of the clone: assigning through it changes the clone.
    cells[places] = patches.to(images.dtype)
    return images


def _patch_cells(images: Tensor, patch_ids: Tensor,
                 patch_size: tuple[int, int]
                 ) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A view by cells, (B, rows, columns, C, h, w), and where patches are."""
    height, width = patch_size
    _, columns = patch_grid_size(images.shape[2:], patch_size)
    cells = images.unflatten(3, (-1, width)).unflatten(2, (-1, height))
    batch = torch.arange(len(images), device=images.device)[:, None]
    rows = torch.div(patch_ids, columns, rounding_mode='floor')
    return (cells.permute(0, 2, 4, 1, 3, 5),
            (batch, rows, patch_ids % columns))


def unpatchify(tokens: Tensor, patch_size: int,
               grid_size: tuple[int, int]) -> Tensor:
    """Put patches together again, the inverse of :func:`patchify`.

    ``grid_size`` is (rows, columns), with ``rows * columns = L``. A ValueError
    if the grid does not hold L patches, or the tokens are not patches of
    this size.

    Example:
        >>> images = torch.rand(1, 3, 4, 8)
        >>> bool((unpatchify(patchify(images, 2), 2, (2, 4)) == images).all())
        True
    """
    rows, columns = grid_size
    batch_size, num_patches, length = tokens.shape
    if rows * columns != num_patches:
        raise ValueError(f'grid_size {tuple(grid_size)} holds '
                         f'{rows * columns} patches, got {num_patches}')
    if length % patch_size**2:
        raise ValueError(f'tokens of length {length} are not patches of '
                         f'{patch_size} x {patch_size} pixels')
    channels = length // patch_size**2
    tokens = tokens.reshape(batch_size, rows, columns, patch_size, patch_size,
                            channels)
    return tokens.permute(0, 5, 1, 3, 2, 4).reshape(
        batch_size, channels, rows * patch_size, columns * patch_size)


def patch_statistics(patches: Tensor,
                     channels: int | None = None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, as MAE and SparK take them.

    Args:
        patches: Shape (B, M, P), the pixels and channels of a patch in P,
            the channels of a pixel together.
        channels: Take them of each of so many channels by itself; None takes
            those of all channels together.

    Returns:
        Both (B, M, 1), with ``channels`` (B, M, P). A blank patch has the
        deviation 1e-3, with ``channels`` 0.1: single channels are often
        nearly blank, and their noise must not become the target.

    Example:
        >>> patch_statistics(torch.tensor([[[1., 1.]]]))
        (tensor([[[1.]]]), tensor([[[0.0010]]]))
    """
    if channels is not None:
        pixels = patches.unflatten(-1, (-1, channels))
        deviation = (pixels.var(dim=-2, keepdim=True) + 1e-2).sqrt()
        return tuple(value.expand_as(pixels).flatten(-2) for value in (
            pixels.mean(dim=-2, keepdim=True), deviation))
    variance = patches.var(dim=-1, keepdim=True)
    return patches.mean(dim=-1, keepdim=True), (variance + 1e-6).sqrt()


def sincos_position_embedding(grid_size: tuple[int, int], embed_dims: int,
                              temperature: float = 10000.0) -> Tensor:
    """Fixed sine-cosine embedding (1, rows * columns, embed_dims), float32.

    The first half codes the row, the second half the column. mmpretrain's
    function of this purpose puts the tokens of a non-square grid in column
    order; this one is row-major for every shape.

    ``temperature`` is the longest wavelength over 2 pi, in patches. A
    ValueError if ``embed_dims`` is not a multiple of 4.

    Example:
        >>> sincos_position_embedding((2, 3), embed_dims=8).shape
        torch.Size([1, 6, 8])
    """
    check_multiple('embed_dims', embed_dims, 4)
    quarter = embed_dims // 4
    omega = temperature**(-torch.arange(quarter, dtype=torch.float64) /
                          quarter)
    rows, columns = torch.meshgrid(
        torch.arange(grid_size[0], dtype=torch.float64),
        torch.arange(grid_size[1], dtype=torch.float64), indexing='ij')
    parts = []
    for position in (rows.flatten(), columns.flatten()):
        angle = position[:, None] * omega[None]
        parts += [angle.sin(), angle.cos()]
    return torch.cat(parts, dim=1).float()[None]
