"""Masked baselines of mmpretrain whose target leaves the stain out.

In H&E a third and more of the variance in a patch lies between its channels.
Targets that are normalised per patch and channel ask for structure alone.
"""

from mmpretrain.models.heads import MAEPretrainHead, SparKPretrainHead
from torch import Tensor

from mmmedmask.functional.patchify import patch_statistics, patchify
from mmmedmask.registry import MODELS


def normalise_patches(images: Tensor, patch_size: int) -> Tensor:
    """Normalise images (B, C, H, W) per patch and channel, in float32.

    Gives (B, L, patch_size**2 * C), row by row, the channels of a pixel
    together.
    """
    patches = patchify(images.float(), patch_size)
    mean, std = patch_statistics(patches, images.shape[1])
    return (patches - mean) / std


@MODELS.register_module()
class ChannelSparKHead(SparKPretrainHead):
    """SparK's head with targets normalised per patch and channel."""

    def construct_target(self, target: Tensor) -> Tensor:
        """Patches (B, L, P) of images (B, C, H, W)."""
        return normalise_patches(target, self.patch_size)


@MODELS.register_module()
class ChannelMAEHead(MAEPretrainHead):
    """MAE's head with targets normalised per patch and channel."""

    def construct_target(self, target: Tensor) -> Tensor:
        """Patches (B, L, P) of images (B, C, H, W)."""
        return normalise_patches(target, self.patch_size)
