"""CMIM: convolutional masked image modelling (WACV 2024).

Yang et al., "Convolutional Masked Image Modeling for Dense Prediction Tasks
on Pathology Images". The authors published no code; what the text leaves open
is listed with our choices in docs/methods/cmim.md.
"""

import torch
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import Tensor, nn

from mmmedmask.functional.affine import relative_theta
from mmmedmask.functional.warp import inside_frame, warp_mask
from mmmedmask.models.cmim.backbones import freeze_unread, probe_levels
from mmmedmask.models.layers.pretrained_last import load_last
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_multiple


@MODELS.register_module()
class CMIM(BaseSelfSupervisor):
    """Reconstruct one view of a tile from another, masked one.

    Args:
        backbone: A :class:`~mmmedmask.models.cmim.MaskedBackbone`.
        neck: The decoder; channels, strides and offsets of the levels are
            measured from the backbone and filled in.
        data_preprocessor: Options of
            :class:`~mmmedmask.models.cmim.CMIMDataPreprocessor`.
        channels_last: Keep the encoder and its images in channels-last
            memory, which convolutions prefer.
        compile_encoder: Compile the encoder with ``torch.compile``; a dict
            holds its arguments.

    Raises:
        ValueError: If the backbone is not a CMIM encoder, the sizes of views,
            mask patches, levels and decoder tokens do not divide, or the neck
            leaves out the coarsest level, whose stages nothing would train.
    """

    #: What data preprocessors without a type are.
    default_preprocessor = 'mmmedmask.CMIMDataPreprocessor'

    def __init__(self, backbone: dict, neck: dict, head: dict,
                 data_preprocessor: dict | None = None,
                 channels_last: bool = False,
                 compile_encoder: bool | dict = False,
                 init_cfg: dict | list[dict] | None = None) -> None:
        preprocessor = MMPRETRAIN_MODELS.build(
            dict(type=self.default_preprocessor) |
            dict(data_preprocessor or {}))
        encoder = MMPRETRAIN_MODELS.build(backbone)
        channels = preprocessor.in_channels
        levels = probe_levels(encoder, channels)
        neck = dict(neck)
        neck.setdefault('out_channels', channels)
        neck.update(in_channels=levels.channels, strides=levels.strides,
                    offsets=levels.offsets)
        super().__init__(backbone=encoder, neck=neck, head=head,
                         data_preprocessor=preprocessor, init_cfg=init_cfg)
        read, coarsest = self.neck.levels, len(levels.strides)
        if read[-1] < coarsest:
            raise ValueError(
                f'levels must contain {coarsest}, the coarsest of '
                f'{type(encoder).__name__}, got {read}: the stages behind '
                f'level {read[-1]} would stay as they were drawn')
        for stride in (*levels.strides, self.neck.out_stride):
            check_multiple('view_size', preprocessor.view_size, stride,
                           "a level's stride")
        for stride in levels.strides[:encoder.num_mask_tokens]:
            check_multiple('patch_size', preprocessor.patch_size, stride,
                           "a masked level's stride")
        self.mask_tokens = nn.ParameterList(
            torch.zeros(1, channels, 1, 1)
            for channels in levels.channels[:encoder.num_mask_tokens])
        if len(read) < coarsest:
            freeze_unread(encoder, self.mask_tokens, read, channels)
        self.channels_last = channels_last
        if channels_last:
            self.backbone.to(memory_format=torch.channels_last)
        if compile_encoder is not False:
            self.backbone.compile(
                **({} if compile_encoder is True else compile_encoder))

    def init_weights(self) -> None:
        """Initialise all parts; the mask token as in SparK and MAE.

        A pre-trained checkpoint wins.
        """
        super().init_weights()
        for token in self.mask_tokens:
            nn.init.trunc_normal_(token, std=0.02)
        load_last(self)

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict:
        """One training step, Eq. 1 to 7, with what the preprocessor makes.

        Gives ``loss``, and ``target_share``, the share of pixels that count
        (MMEngine adds up whatever has "loss" in its name).
        """
        theta = relative_theta(inputs['theta_query'], inputs['theta_key'])
        embeddings = self.encode(inputs['query'], inputs['mask'])  # Eq. 1-3
        embeddings = self.neck.warp(embeddings, theta,
                                    inputs['separable'])  # Eq. 4
        combined = self.neck.combine(embeddings)  # Eq. 5
        prediction = self.neck.decode(combined)  # Eq. 6
        weight = self.target_weight(inputs, theta)  # t2(t1^-1(m))
        loss = self.head.loss(prediction, inputs['key'], weight)  # Eq. 7
        return dict(loss=loss, target_share=weight.mean())

    def target_weight(self, inputs: dict, theta: Tensor) -> Tensor:
        """Masked pixels of the key view, ``t2(t1^-1(m))``, (B, 1, H, W).

        1 = counts; ``theta`` (B, 3, 3) leads from key to query.
        """
        size = tuple(inputs['key'].shape[-2:])
        weight = warp_mask(inputs['mask'], theta, size)
        # Rotated views can look beyond the tile, where there is no target.
        return weight * inside_frame(inputs['theta_key'], size)

    def reconstruct(self, inputs: dict) -> tuple[Tensor, Tensor]:
        """Reconstruct the key view (B, C, H, W) as :meth:`loss` does.

        Returns :meth:`target_weight`, too, for pictures.
        """
        theta = relative_theta(inputs['theta_query'], inputs['theta_key'])
        embeddings = self.encode(inputs['query'], inputs['mask'])
        warped = self.neck.warp(embeddings, theta, inputs['separable'])
        return self.neck(warped), self.target_weight(inputs, theta)

    def encode(self, images: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Embed images as :meth:`MaskedBackbone.forward` does, Eq. 1 to 3."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.backbone(images, mask, self.mask_tokens)
