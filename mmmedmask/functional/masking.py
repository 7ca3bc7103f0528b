"""Patch masks: how many patches, which ones, and at which resolution.

Everywhere in this project 1 means masked (removed) and 0 means visible.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmedmask.functional.patchify import patch_grid_size
from mmmedmask.util.checks import check_range


def floor_share(count: int, ratio: float) -> int:
    """Round a share of a count down, but not for a rounding error.

    Returns:
        ``floor(count * ratio)``: 116 of 400 at 0.29, although their product
        is 115.99999999999999 in floats.

    Example:
        >>> floor_share(400, .29), floor_share(196, .45)
        (116, 88)
    """
    return int(count * ratio + 1e-6)


def num_masked_patches(num_patches: int, mask_ratio: float) -> int:
    """Number of masked patches for a ratio.

    The visible patches are rounded, as in SparK on which CMIM builds: 49
    patches at a ratio of 0.7 leave ``round(14.7) = 15`` visible, 34 masked.

    Args:
        mask_ratio: Share of patches to mask, in [0, 1].

    Raises:
        ValueError: If ``mask_ratio`` is outside [0, 1].

    Example:
        >>> num_masked_patches(49, .7)
        34
    """
    check_range('mask_ratio', mask_ratio, 0, 1)
    return num_patches - round(num_patches * (1 - mask_ratio))


def random_patch_mask(noise: Tensor, mask_ratio: float) -> Tensor:
    """Mask the patches with the smallest noise.

    Args:
        noise: Uniform noise of shape (B, h, w), one number per patch.
        mask_ratio: Share of patches to mask, in [0, 1].

    Returns:
        Mask of shape (B, 1, h, w), float32, 1 = masked; every image has
        exactly ``num_masked_patches(h * w, mask_ratio)`` ones.

    Example:
        >>> random_patch_mask(torch.tensor([[[.9, .1], [.3, .5]]]), .5)
        tensor([[[[0., 1.],
                  [1., 0.]]]])
    """
    batch_size, height, width = noise.shape
    count = num_masked_patches(height * width, mask_ratio)
    order = noise.flatten(1).argsort(dim=1, stable=True)
    mask = torch.zeros(
        batch_size, height * width, dtype=torch.float32, device=noise.device)
    mask.scatter_(1, order[:, :count], 1.0)
    return mask.view(batch_size, 1, height, width)


def blank_patches(images: Tensor, patch_size: tuple[int, int],
                  max_std: float = 0.05) -> Tensor:
    """Say which patches are flat, as a scan's background is, bool (B, L).

    Args:
        images: Normalised images (B, C, H, W).
        patch_size: Height and width of a patch in pixels.
        max_std: Largest standard deviation of a flat patch's pixels, in
            every channel, in units of ``images``; 0.05 is 3 of 256 gray
            levels with ImageNet's normalisation.

    Raises:
        ValueError: If the patches do not divide the images.

    Example:
        >>> images = torch.tensor([[[[1., 1., 0., 1.]]]])
        >>> blank_patches(images, (1, 2)).tolist()
        [[True, False]]
    """
    rows, columns = patch_grid_size(images.shape[2:], patch_size)
    cells = images.float().unflatten(3, (columns, -1))
    cells = cells.unflatten(2, (rows, -1))
    std = cells.std(dim=(3, 5), correction=0)
    return (std.amax(dim=1) <= max_std).flatten(1)


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring a patch mask to the resolution of an image or a feature map.

    Args:
        mask: Mask of shape (B, 1, h, w), 1 = masked.
        size: Target (H, W), multiples of (h, w).

    Returns:
        Mask of shape (B, 1, H, W) in which each patch is a constant block
        (nearest neighbour).

    Raises:
        ValueError: If blocks would differ in size.

    Example:
        >>> resize_mask(torch.tensor([[[[0., 1.]]]]), (2, 4))
        tensor([[[[0., 0., 1., 1.],
                  [0., 0., 1., 1.]]]])
    """
    height, width = mask.shape[-2:]
    if size[0] % height or size[1] % width:
        raise ValueError(
            f'size {tuple(size)} must be a multiple of the mask size '
            f'{(height, width)}; choose patch_size as a multiple of the '
            'stride of the feature map')
    return F.interpolate(mask, size=tuple(size), mode='nearest')
