"""MSMAE's losses: squared error of masked patches, and the class (Eq. 1-3)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmmedmask.functional import patchify
from mmmedmask.models.layers.data_samples import class_labels
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import (
    check_choice,
    check_integer,
    check_range,
    check_size,
)


@MODELS.register_module()
class MSMAEHead(BaseModule):
    """Reconstruction in float32, and a linear class head on the class token.

    Args:
        patch_size: Side of a patch in pixels, or (h, w).
        norm_pix: Normalise each target patch by its mean and standard
            deviation, as MAE's own recipe does; the paper does not.
            ``'channel'`` does it per channel, for stained tissue.
        cls_weight: Weight of the class loss, lambda in Eq. 3, at least 0. At 0
            there is no class head and no labels are needed: the
            attention-driven masking of AMT.
        num_classes: Number of classes, at least 2; needed if ``cls_weight`` is
            not 0.
        softmax_twice: Put a softmax in front of the cross-entropy that has
            one, as the released code does and the paper does not: with C
            classes the class loss is then never below ln(1 + (C - 1) / e).
    """

    def __init__(self, patch_size: int | Sequence[int] = 16,
                 norm_pix: bool | str = False, cls_weight: float = 0.1,
                 num_classes: int | None = None, softmax_twice: bool = False,
                 embed_dims: int = 768,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        check_range('cls_weight', cls_weight, 0)
        check_integer('embed_dims', embed_dims)
        if num_classes is not None:
            check_integer('num_classes', num_classes, 0)
        if cls_weight > 0 and (num_classes is None or num_classes < 2):
            raise ValueError(
                f'cls_weight {cls_weight} needs num_classes of at least 2, '
                f'got {num_classes}; cls_weight=0 needs no labels')
        self.patch_size = check_size('patch_size', patch_size)
        self.norm_pix = check_choice('norm_pix', norm_pix, patchify.NORM_PIX)
        self.cls_weight = cls_weight
        self.num_classes = num_classes
        self.softmax_twice = softmax_twice
        self.fc = nn.Linear(embed_dims, num_classes) if cls_weight else None

    def target(self, images: Tensor, masked_ids: Tensor) -> Tensor:
        """What is to be predicted for the masked patches (B, M) of images.

        Shape (B, M, patch pixels * C), float32, pixels row by row with their
        channels together.
        """
        patches = self._pixels(images.float(), masked_ids)
        if self.norm_pix:
            mean, std = self._statistics(patches, images.shape[1])
            patches = (patches - mean) / std
        return patches

    def _statistics(self, patches: Tensor,
                    channels: int) -> tuple[Tensor, Tensor]:
        return patchify.patch_statistics(
            patches, channels if self.norm_pix == 'channel' else None)

    def _pixels(self, images: Tensor, masked_ids: Tensor) -> Tensor:
        patches = patchify.gather_patches(images, masked_ids, self.patch_size)
        return patches.permute(0, 1, 3, 4, 2).flatten(2)

    def reconstruction_loss(self, prediction: Tensor, images: Tensor,
                            masked_ids: Tensor) -> Tensor:
        """Mean squared error over all pixels of the masked patches, Eq. 1.

        Predictions are (B, M, patch pixels * C), images normalised, (B, C,
        H, W), ids (B, M). Gives a float32 scalar.
        """
        with torch.autocast(prediction.device.type, enabled=False):
            return F.mse_loss(prediction.float(),
                              self.target(images, masked_ids))

    def classification_loss(self, class_token: Tensor,
                            data_samples: Sequence[DataSample]) -> Tensor:
        """Cross-entropy of the class, Eq. 2, on logits of class tokens (B, C).

        A float32 scalar, not yet weighted. A ValueError names an image without
        a label, or with one that is not a class.
        """
        labels = class_labels(data_samples, self.num_classes,
                              f'; cls_weight={self.cls_weight} needs it, '
                              'pre-training without labels has cls_weight=0')
        logits = self.fc(class_token)
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            if self.softmax_twice:
                logits = logits.softmax(dim=1)
            return F.cross_entropy(logits, labels.to(logits.device))

    def fill_in(self, images: Tensor, prediction: Tensor,
                masked_ids: Tensor) -> Tensor:
        """Put the predicted patches into the images, for pictures.

        Predictions are (B, M, patch pixels * C), ids (B, M). Gives (B, C, H,
        W) in the units of ``images``; with ``norm_pix`` the true patches'
        mean and standard deviation are used.
        """
        prediction = prediction.float()
        if self.norm_pix:
            mean, std = self._statistics(
                self._pixels(images.float(), masked_ids), images.shape[1])
            prediction = prediction * std + mean
        patches = prediction.unflatten(
            2, (*self.patch_size, images.shape[1])).permute(0, 1, 4, 2, 3)
        return patchify.scatter_patches(images, masked_ids, patches)
