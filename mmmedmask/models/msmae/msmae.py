"""MSMAE: masked autoencoder with supervised attention-driven masking.

Mao et al., "MSMAE: Medical Supervised Masked Autoencoders", arXiv
2305.05871. Where the paper and the code released for it differ, this
follows the paper; docs/methods/msmae.md lists every choice.
"""

from collections.abc import Sequence

from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from mmpretrain.structures import DataSample
from torch import Tensor

from mmmedmask.functional.attention_masking import (
    TokenPartition,
    token_counts,
)
from mmmedmask.models.msmae.attention import AttentionMasking, check_unmixed
from mmmedmask.registry import MODELS


@MODELS.register_module()
class MSMAE(AttentionMasking, BaseSelfSupervisor):
    """Reconstruct what the class token attends to, and tell the class.

    While samples have no ``attention_map``, tokens are masked at random, as
    in MAE. ``mmmedmask.AttentionMaskHook`` attaches the maps.

    Args:
        backbone: An :class:`~mmmedmask.models.msmae.MSMAEViT` with
            ``out_type='raw'``.
        neck: The decoder; image size, patch size and channels are taken
            from the backbone.
        head: The losses; patch size and dimensions are taken from the
            backbone.
        data_preprocessor: mmpretrain's ``ClsDataPreprocessor``, without
            batch augmentations.
        mask_ratio: Share of tokens that are masked by attention, r.
        throw_ratio: Share of tokens that are thrown away, t.
        random_mask_ratio: Share that is masked while there are no maps.
        masking: What maps do once there are any, see
            :meth:`~mmmedmask.models.msmae.attention.AttentionMasking.set_masking`.
            ``'random'`` draws uniformly at r and t, as the released code.
        weight_norm: See
            :func:`~mmmedmask.models.msmae.attention.normalize_attention`.
        seed: Seed of the masking; None takes the run's.

    Raises:
        ValueError: If a ratio leaves no visible or no masked token, the
            backbone does not return the last layer's tokens, or the
            preprocessor mixes images.
    """

    def __init__(self, backbone: dict, neck: dict, head: dict,
                 data_preprocessor: dict | None = None,
                 mask_ratio: float = 0.45, throw_ratio: float = 0.30,
                 random_mask_ratio: float = 0.75, masking: str = 'attention',
                 weight_norm: str = 'per_head', seed: int | None = None,
                 init_cfg: dict | list[dict] | None = None) -> None:
        encoder = MMPRETRAIN_MODELS.build(backbone)
        if getattr(encoder, 'out_type', None) != 'raw':
            raise ValueError(
                'MSMAE needs a backbone mmmedmask.MSMAEViT with '
                f"out_type='raw', got {type(encoder).__name__} with "
                f'{getattr(encoder, "out_type", None)!r}')
        if encoder.out_indices != [len(encoder.layers) - 1]:
            raise ValueError(
                'MSMAE learns by the last layer, of which its maps are: '
                f'out_indices must be -1, got {encoder.out_indices}')
        shared = dict(patch_size=encoder.patch_size)
        neck = dict(img_size=encoder.img_size, in_channels=encoder.in_channels,
                    encoder_dims=encoder.embed_dims) | shared | neck
        head = dict(embed_dims=encoder.embed_dims) | shared | head
        preprocessor = dict(type='ClsDataPreprocessor') | dict(
            data_preprocessor or {})
        super().__init__(backbone=encoder, neck=neck, head=head,
                         data_preprocessor=preprocessor, init_cfg=init_cfg)
        check_unmixed(self.data_preprocessor)
        for ratios in ((mask_ratio, throw_ratio), (random_mask_ratio, 0.0)):
            if token_counts(self.neck.num_patches, *ratios).masked == 0:
                raise ValueError(f'a mask ratio of {ratios[0]} masks none of '
                                 f'{self.neck.num_patches} tokens')
        self.set_masking(mask_ratio, throw_ratio, masking, weight_norm, seed)
        self.ratios_without_maps = random_mask_ratio, 0.0

    def loss(self, inputs: Tensor, data_samples: Sequence[DataSample]) -> dict:
        """One training step, Eq. 1 to 7.

        Args:
            inputs: Normalised images (B, C, H, W).
            data_samples: Samples with ``sample_idx``, with ``gt_label`` if
                the class is learned, and with ``attention_map`` and
                ``crop_box`` once there are maps.

        Returns:
            ``loss_rec``, and if the class is learned ``loss_cls``, weighted,
            and ``cross_entropy``, the same without its weight; and what
            :meth:`blank_shares` gives.
        """
        partition = self.partition(inputs, data_samples)  # Eq. 6, 7
        latent, prediction = self._predict(inputs, partition)
        losses = dict(loss_rec=self.head.reconstruction_loss(
            prediction, inputs, partition.masked))  # Eq. 1
        if self.head.cls_weight:
            cross_entropy = self.head.classification_loss(
                latent[:, 0], data_samples)  # Eq. 2
            losses.update(
                loss_cls=self.head.cls_weight * cross_entropy,  # Eq. 3
                cross_entropy=cross_entropy.detach())
        return losses | self.blank_shares(inputs, partition)

    def reconstruct(self, inputs: Tensor, partition: TokenPartition) -> Tensor:
        """Fill in the masked patches of images (B, C, H, W), for pictures."""
        _, prediction = self._predict(inputs, partition)
        return self.head.fill_in(inputs, prediction, partition.masked)

    def _predict(self, inputs: Tensor,
                 partition: TokenPartition) -> tuple[Tensor, Tensor]:
        """Give the encoder's tokens and the predicted patches."""
        grid, wanted = self.backbone.grid_size(inputs), self.neck.grid_size
        if grid != wanted:
            raise ValueError(
                f'images of {tuple(inputs.shape[-2:])} pixels have a grid of '
                f'{grid} patches, and the decoder is for {wanted}: bring '
                'images to its size, or set img_size of the backbone to '
                'theirs')
        latent, = self.backbone(inputs, partition.visible)
        return latent, self.neck(latent, partition)

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Encode all tokens, (B, 1 + L, C) in a tuple."""
        return self.backbone(inputs)
