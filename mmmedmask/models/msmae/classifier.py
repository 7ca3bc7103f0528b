"""Fine-tuning with MSMAE: trained on visible tokens, tested on all."""

from collections.abc import Sequence

from mmpretrain.models.classifiers import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from mmmedmask.functional.attention_masking import token_counts
from mmmedmask.models.msmae.attention import AttentionMasking, check_unmixed
from mmmedmask.models.msmae.encoder import MSMAEViT
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_choice

MASKINGS = ('attention', 'random')


@MODELS.register_module()
class MSMAEClassifier(AttentionMasking, ImageClassifier):
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
        masking: ``'attention'`` follows the maps that
            ``mmmedmask.AttentionMaskHook`` attaches; ``'random'`` draws the
            visible tokens by chance alone, and needs no hook.
        weight_norm: See
            :func:`~mmmedmask.models.msmae.attention.normalize_attention`.
        seed: Seed of the masking; None takes the run's.
        options: Further arguments of mmpretrain's ``ImageClassifier``;
            ``train_cfg`` without Mixup and CutMix if tokens are masked.

    Raises:
        ValueError: If an argument is out of range, the backbone cannot leave
            tokens out, or images are mixed while tokens are masked.
    """

    def __init__(self,
                 backbone: dict,
                 mask_ratio: float = 0.45,
                 throw_ratio: float = 0.30,
                 masking: str = 'attention',
                 weight_norm: str = 'per_head',
                 seed: int | None = None,
                 **options) -> None:
        super().__init__(backbone, **options)
        if not isinstance(self.backbone, MSMAEViT):
            raise ValueError('MSMAEClassifier needs the backbone '
                             'mmmedmask.MSMAEViT, got '
                             f'{type(self.backbone).__name__}')
        rows, columns = self.backbone.patch_resolution
        token_counts(rows * columns, mask_ratio, throw_ratio)
        self.set_masking(mask_ratio, throw_ratio, weight_norm, seed)
        self.masking = check_choice('masking', masking, MASKINGS)
        if self.masks_tokens:
            check_unmixed(self.data_preprocessor)

    @property
    def masks_tokens(self) -> bool:
        """Whether training leaves tokens out."""
        return self.mask_ratio + self.throw_ratio > 0

    @property
    def ratios_without_maps(self) -> tuple[float, float] | None:
        """Shares to mask and to throw away by chance; None: maps needed."""
        return (self.mask_ratio, self.throw_ratio) \
            if self.masking == 'random' else None

    @property
    def num_classes(self) -> int:
        """Classes that the head tells apart."""
        return self.head.num_classes

    def loss(self, inputs: Tensor, data_samples: Sequence[DataSample]) -> dict:
        """One training step, Eq. 8.

        Args:
            inputs: Normalised images (B, C, H, W).
            data_samples: Samples with ``gt_label`` and, if tokens are masked
                by attention, ``attention_map`` and ``crop_box``.

        Returns:
            The head's losses.
        """
        visible = None
        if self.masks_tokens:
            visible = self.partition(inputs, data_samples).visible
        features = self.backbone(inputs, visible)
        if self.with_neck:
            features = self.neck(features)
        return self.head.loss(features, data_samples)
