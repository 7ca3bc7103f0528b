"""Masked baselines of mmpretrain whose target leaves the stain out.

In H&E a third and more of the variance in a patch lies between its channels.
Targets that are normalised per patch and channel ask for structure alone.
"""

from mmpretrain.models.heads import MAEPretrainHead, SparKPretrainHead
from torch import Tensor

from mmmedmask.functional.patchify import patch_statistics, patchify
from mmmedmask.registry import MODELS


class _ChannelTargets:
    """Targets normalised per patch and channel."""

    def construct_target(self, target: Tensor) -> Tensor:
        """Patches (B, L, patch_size**2 * C), float32, of images (B, C, H, W).

        Row by row, the channels of a pixel together.
        """
        patches = patchify(target.float(), self.patch_size)
        mean, std = patch_statistics(patches, target.shape[1])
        return (patches - mean) / std


@MODELS.register_module()
class ChannelSparKHead(_ChannelTargets, SparKPretrainHead):
    """SparK's head with such targets."""


@MODELS.register_module()
class ChannelMAEHead(_ChannelTargets, MAEPretrainHead):
    """MAE's head with such targets."""
