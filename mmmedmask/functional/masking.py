"""Patch masks: how many patches, which ones, and at which resolution.

Everywhere in this project 1 means masked (removed) and 0 means visible.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmedmask.functional.patchify import patch_grid_size
from mmmedmask.util.checks import check_range


def floor_share(count: int, ratio: float) -> int:
    """``floor(count * ratio)``, but for rounding errors.

    116 of 400 at 0.29, although their product is 115.99999999999999.

    Example:
        >>> floor_share(400, .29), floor_share(196, .45)
        (116, 88)
    """
    return int(count * ratio + 1e-6)


def num_masked_patches(num_patches: int, mask_ratio: float) -> int:
    """Number of masked patches for a ratio.

    The visible patches are rounded, as in SparK on which CMIM builds: 49
    patches at a ratio of 0.7 leave ``round(14.7) = 15`` visible, 34 masked. A
    ValueError if ``mask_ratio`` is outside [0, 1].

    Example:
        >>> num_masked_patches(49, .7)
        34
    """
    check_range('mask_ratio', mask_ratio, 0, 1)
    return num_patches - round(num_patches * (1 - mask_ratio))


def random_patch_mask(noise: Tensor, mask_ratio: float) -> Tensor:
    """Mask the patches with the smallest noise, (B, 1, h, w), float32.

    Every image has exactly ``num_masked_patches(h * w, mask_ratio)`` ones,
    1 = masked.

    Args:
        noise: Uniform noise of shape (B, h, w), one number per patch.

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
        patch_size: (h, w) of a patch in pixels.
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


def extents(flags: Tensor) -> tuple[Tensor, Tensor]:
    """First True of each row (..., N), and the place behind the last one.

    Both (...), int64, and 0 in a row without any.

    Example:
        >>> extents(torch.tensor([[False, True, False, True, False]]))
        (tensor([1]), tensor([4]))
    """
    places = torch.arange(1, flags.shape[-1] + 1, device=flags.device)
    return flags.int().argmax(dim=-1), (places * flags).amax(dim=-1)


def boxes_of_masks(masks: Tensor) -> Tensor:
    """Smallest boxes (N, 4) around bool masks (N, H, W), float32.

    They are (x1, y1, x2, y2) in pixels, the last two behind the last pixel;
    zeros for an empty mask.

    Example:
        >>> boxes_of_masks(torch.tensor([[[False, True], [False, True]]]))
        tensor([[1., 0., 2., 2.]])
    """
    (left, right), (top, bottom) = (extents(masks.any(dim=dim))
                                    for dim in (1, 2))
    return torch.stack([left, top, right, bottom], dim=1).float()


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring a patch mask to the resolution of an image or a feature map.

    Each patch (B, 1, h, w) becomes a constant block of (B, 1, H, W); ``size``
    (H, W) is a multiple of (h, w). A ValueError if blocks would differ in
    size.

    Example:
        >>> resize_mask(torch.tensor([[[[0., 1.]]]]), (2, 4))
        tensor([[[[0., 0., 1., 1.],
                  [0., 0., 1., 1.]]]])
    """
    height, width = mask.shape[-2:]
    if size[0] % height or size[1] % width:
        raise ValueError(f'size {tuple(size)} must be a multiple of the mask '
                         f'size {(height, width)}; choose patch_size as a '
                         'multiple of the stride of the feature map')
    return F.interpolate(mask, size=tuple(size), mode='nearest')
