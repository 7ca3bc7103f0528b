"""CMIM's loss: squared error on the key view's masked pixels, Eq. 7."""

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModule
from torch import Tensor

from mmmedmask.functional.patchify import (
    NORM_PIX,
    patch_grid_size,
    patch_statistics,
    patchify,
    unpatchify,
)
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_choice, check_integer

REDUCTIONS = ('batch', 'image', 'sum')


@MODELS.register_module()
class CMIMHead(BaseModule):
    """Weighted squared error in float32.

    Args:
        norm_pix: True normalises the target per patch, as SparK and MAE do,
            ``'channel'`` per patch and channel, which takes the stain out,
            too; False is the literal Eq. 7.
        patch_size: Side of these patches in pixels.
        reduction: ``'batch'`` divides by all weighted pixels of the batch,
            ``'image'`` averages per image first, over the images that have
            any; ``'sum'`` adds up what an image has and divides by the
            number of images: the squared norm of Eq. 7 as it stands. With
            SGD this choice is a learning rate, see docs/methods/cmim.md.
        sync_weight: Divide by the mean weight over all ranks, so that
            several processes give exactly the gradient of one.

    Raises:
        ValueError: If ``norm_pix`` or ``reduction`` is unknown,
            ``sync_weight`` is asked for with ``'image'``, or ``patch_size``
            is below 1.
    """

    def __init__(self, norm_pix: bool | str = False, patch_size: int = 32,
                 reduction: str = 'batch', sync_weight: bool = False) -> None:
        super().__init__()
        if sync_weight and reduction != 'batch':
            raise ValueError("sync_weight=True needs reduction='batch', got "
                             f'{reduction!r}')
        self.norm_pix = check_choice('norm_pix', norm_pix, NORM_PIX)
        self.patch_size = check_integer('patch_size', patch_size)
        self.reduction = check_choice('reduction', reduction, REDUCTIONS)
        self.sync_weight = sync_weight

    def target(self, images: Tensor) -> Tensor:
        """What is to be predicted for key views (B, C, H, W)."""
        if not self.norm_pix:
            return images
        mean, std = self._statistics(images)
        return (images - mean) / std

    def to_pixels(self, prediction: Tensor, images: Tensor) -> Tensor:
        """Undo the target's normalisation (B, C, H, W), for pictures.

        The statistics are those of ``images``, the key views.
        """
        if not self.norm_pix:
            return prediction
        mean, std = self._statistics(images)
        return prediction * std + mean

    def _statistics(self, images: Tensor) -> tuple[Tensor, ...]:
        """Each pixel's mean and deviation, those of its patch."""
        patches = patchify(images, self.patch_size)
        grid_size = patch_grid_size(images.shape[2:], (self.patch_size, ) * 2)
        channels = images.shape[1] if self.norm_pix == 'channel' else None
        return tuple(
            unpatchify(value.expand_as(patches), self.patch_size, grid_size)
            for value in patch_statistics(patches, channels))

    def loss(self, prediction: Tensor, images: Tensor,
             weight: Tensor) -> Tensor:
        """Eq. 7, a float32 scalar; 0 if no pixel counts.

        ``images`` are key views, (B, C, H, W) as the prediction, ``weight``
        is ``t2(t1^-1(m))``, (B, 1, H, W), 1 where the loss counts.
        """
        with torch.autocast(prediction.device.type, enabled=False):
            error = (prediction.float() - self.target(images.float()))**2
            weight = weight.float()
            channels = prediction.shape[1]
            if self.reduction == 'image':
                pixels = weight.sum(dim=(1, 2, 3))
                per_image = (error * weight).sum(dim=(1, 2, 3)) / (
                    channels * pixels.clamp(min=1))
                return per_image.sum() / (pixels > 0).sum().clamp(min=1)
            if self.reduction == 'sum':
                return (error * weight).sum() / len(images)
            pixels = weight.sum()
            if self.sync_weight:
                all_reduce(pixels)
                pixels = pixels / get_world_size()
            return (error * weight).sum() / (channels * pixels.clamp(min=1))
