"""Which patches a classifier with average pooling names its class by."""

import torch
from torch import Tensor, nn


def patch_logits(classifier: nn.Module, images: Tensor,
                 classes: Tensor) -> Tensor:
    """Split the logit of a class among the patches, float32 (B, L).

    Class-activation mapping (Zhou et al., CVPR 2016) of a vision transformer
    whose head is linear in the normalised mean of its patch tokens. Up to
    what no image changes (the biases of norm and head), a logit is the sum
    of its patches' parts; the norm's scale is that of the mean token.

    Args:
        classifier: A :class:`~mmmedmask.models.msmae.MSMAEClassifier` with
            ``out_type='avg_featmap'`` and without a neck.
        images: Normalised images (B, C, H, W).
        classes: The class per image, shape (B, ), int64.

    Raises:
        ValueError: If the classifier does not pool patch tokens.
    """
    vit = classifier.backbone
    if vit.out_type != 'avg_featmap' or classifier.with_neck:
        raise ValueError(
            'a class-activation map needs a classifier without a neck whose '
            f"backbone has out_type='avg_featmap', got {vit.out_type!r}")
    tokens = vit.embed(images)
    for layer in vit.layers:
        tokens = layer(tokens)
    if vit.final_norm:
        tokens = vit.ln1(tokens)
    patches = tokens[:, 1:].float()
    mean = patches.mean(dim=1)
    scale = (mean.var(dim=1, correction=0) + vit.ln2.eps).rsqrt()
    centred = patches - patches.mean(dim=2, keepdim=True)
    weights = classifier.head.fc.weight[classes] * vit.ln2.weight
    with torch.autocast(images.device.type, enabled=False):
        parts = (centred @ weights.float()[..., None])[..., 0]
    return parts * scale[:, None] / patches.shape[1]
