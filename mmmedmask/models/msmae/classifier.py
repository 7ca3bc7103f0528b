"""Fine-tuning with MSMAE: trained on visible tokens, tested on all."""

from collections.abc import Sequence

import torch
from mmpretrain.models.classifiers import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmmedmask.functional.attention_masking import token_counts
from mmmedmask.models.layers.data_samples import class_labels, run_info
from mmmedmask.models.msmae import attention
from mmmedmask.models.msmae.encoder import MSMAEViT
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_choice, check_integer


@MODELS.register_module()
class MSMAEClassifier(attention.AttentionMasking, ImageClassifier):
    """Image classifier whose training masks by attention, Eq. 8.

    A training step runs on the visible tokens; masked and thrown tokens are
    both left out. Validation and test run on all tokens, as a plain vision
    transformer. With ``mask_ratio = throw_ratio = 0`` training is that of a
    plain vision transformer, too.

    Args:
        backbone: An :class:`~mmmedmask.models.msmae.MSMAEViT` with
            ``out_type='avg_featmap'`` or ``'cls_token'``.
        mask_ratio: Share of tokens that are masked, r.
        throw_ratio: Share of tokens that are thrown away, t.
        masking: ``'attention'`` and ``'inverse_attention'`` follow the maps
            that ``mmmedmask.AttentionMaskHook`` attaches, see
            :meth:`~mmmedmask.models.msmae.attention.AttentionMasking.set_masking`;
            ``'random'`` draws the visible tokens by chance alone, and needs
            no hook.
        all_token_epochs: So many epochs at the end train on all tokens.
        test_tokens: ``'all'``. The others see as many tokens in validation
            and test as in training, to measure what that changes:
            ``'random'``, or drawn from the image's own map as in training
            with ``'attention'`` or ``'inverse_attention'``.
        weight_norm: See
            :func:`~mmmedmask.models.msmae.attention.normalize_attention`.
        seed: Seed of the masking; None takes the run's.
        options: Further arguments of mmpretrain's ``ImageClassifier``;
            ``train_cfg`` without Mixup and CutMix if tokens are masked.

    Raises:
        ValueError: If an argument is out of range, the backbone cannot leave
            tokens out, images are mixed while tokens are masked, or tokens
            are to be left out and both ratios are 0; in training, if
            ``all_token_epochs`` are all epochs.
    """

    def __init__(self, backbone: dict, mask_ratio: float = 0.45,
                 throw_ratio: float = 0.30, masking: str = 'attention',
                 all_token_epochs: int = 0, test_tokens: str = 'all',
                 weight_norm: str = 'per_head', seed: int | None = None,
                 **options) -> None:
        super().__init__(backbone, **options)
        if not isinstance(self.backbone, MSMAEViT):
            raise ValueError('MSMAEClassifier needs the backbone '
                             'mmmedmask.MSMAEViT, got '
                             f'{type(self.backbone).__name__}')
        rows, columns = self.backbone.patch_resolution
        token_counts(rows * columns, mask_ratio, throw_ratio)
        self.set_masking(mask_ratio, throw_ratio, masking, weight_norm, seed)
        self.all_token_epochs = check_integer(
            'all_token_epochs', all_token_epochs, 0)
        self.test_tokens = check_choice(
            'test_tokens', test_tokens, ('all', *attention.MASKINGS))
        if self.masks_tokens:
            attention.check_unmixed(self.data_preprocessor)
        elif test_tokens != 'all' or all_token_epochs:
            raise ValueError(
                f'test_tokens {test_tokens!r} and all_token_epochs '
                f'{all_token_epochs} need mask_ratio + throw_ratio above 0; '
                "without masking they are 'all' and 0")

    @property
    def masks_tokens(self) -> bool:
        """Whether training leaves tokens out."""
        return self.mask_ratio + self.throw_ratio > 0

    @property
    def ratios_without_maps(self) -> tuple[float, float] | None:
        """Shares to mask and to throw away by chance; None: maps needed."""
        return (self.mask_ratio, self.throw_ratio) \
            if self.masking == 'random' else None

    def is_all_token_epoch(self) -> bool:
        """Whether the running epoch is one of the last ones, on all tokens."""
        max_epochs = run_info('max_epochs')
        if not self.all_token_epochs or not max_epochs:
            return False
        if self.all_token_epochs >= max_epochs:
            raise ValueError(
                f'all_token_epochs {self.all_token_epochs} leaves none of '
                f'{max_epochs} epochs with masks; it must be below that, '
                'and mask_ratio=0 and throw_ratio=0 train on all tokens')
        return run_info('epoch') >= max_epochs - self.all_token_epochs

    def loss(self, inputs: Tensor, data_samples: Sequence[DataSample]) -> dict:
        """One training step on normalised images (B, C, H, W), Eq. 8.

        Samples have ``gt_label`` and, if tokens are masked by attention,
        ``attention_map`` and ``crop_box``. Gives the head's losses, and if
        tokens are masked what :meth:`blank_shares` gives.
        """
        visible, shares = None, {}
        if self.masks_tokens and not self.is_all_token_epoch():
            partition = self.partition(inputs, data_samples)
            visible = partition.visible
            shares = self.blank_shares(inputs, partition)
        features = self._features(inputs, visible)
        return self.head.loss(features, data_samples) | shares

    def predict(self, inputs: Tensor,
                data_samples: Sequence[DataSample] | None = None,
                **options) -> list[DataSample]:
        """Classify images (B, C, H, W) by ``test_tokens``."""
        if self.test_tokens == 'all':
            return super().predict(inputs, data_samples, **options)
        weights = None if self.test_tokens == 'random' \
            else self.attention_maps(inputs).flatten(1)
        partition = self.draw(
            inputs, data_samples, weights,
            (self.mask_ratio, self.throw_ratio), self.test_tokens)
        return self.head.predict(self._features(inputs, partition.visible),
                                 data_samples, **options)

    def class_activation_maps(self, inputs: Tensor,
                              data_samples: Sequence[DataSample]) -> Tensor:
        """Map of the patches that speak for an image's own class.

        From images (B, C, H, W) with ``gt_label`` to (B, rows, columns),
        float32; what speaks against the class is 0. See :func:`patch_logits`.
        """
        labels = class_labels(data_samples, self.head.num_classes)
        parts = patch_logits(self, inputs, labels.to(inputs.device))
        return parts.clamp_min(0).unflatten(1, self.backbone.grid_size(inputs))

    def _features(self, inputs: Tensor,
                  visible: Tensor | None) -> tuple[Tensor, ...]:
        features = self.backbone(inputs, visible)
        return self.neck(features) if self.with_neck else features


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
