"""Dense CNN encoders that take CMIM's mask token after their stem.

To add a CNN, subclass it together with :class:`MaskedBackbone` and implement
the two methods of the contract; ``mmmedmask.testing.backbone_contract`` runs
a new class through what CMIM relies on.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmpretrain.models import ConvNeXt, ResNet, ResNetV1c, ResNetV1d
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmmedmask.functional.masking import resize_mask
from mmmedmask.models.layers.pretrained_last import PretrainedLast
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_choice, check_indices

MASK_POSITIONS = ('conv1', 'maxpool')


class MaskedBackbone:
    """Contract of a CMIM encoder: Eq. 1 to 3 on top of an ordinary CNN.

    ``forward_stages(forward_stem(x))[-1]`` is the last output of the plain
    network, bit for bit. ``forward(x)`` without a mask stays the plain
    network's, so that its weights and its configs remain compatible.
    """

    @abstractmethod
    def forward_stem(self, images: Tensor) -> Tensor:
        """Embed images, ``f_1`` of Eq. 1: (B, C, H, W) to (B, D, h, w)."""

    @abstractmethod
    def forward_stages(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """Apply the other layers, ``f_2 ... f_N`` of Eq. 3, in order."""

    num_mask_tokens: int | None = 1
    """Levels that take a mask token, from the finest on; None: all."""

    def receptive_field_offset(self, stride: int) -> float:
        """Pixel index at which the first feature of a level is centred.

        0 for convolutions that are padded symmetrically: feature j is at
        pixel ``stride * j``.
        """
        return 0.0

    def forward(self, x: Tensor, mask: Tensor | None = None,
                mask_tokens: Sequence[Tensor] = ()):
        """Encode masked images to ``z_1 ... z_N``, finest first.

        Args:
            x: Normalised images of shape (B, C, H, W).
            mask: Patch mask of shape (B, 1, h, w), 1 = masked; None runs
                the plain network.
            mask_tokens: Embeddings of masked places, shape (1, D, 1, 1)
                each, one per level that takes one.

        Raises:
            ValueError: If there is a mask, but not one token.
        """
        if mask is None:
            return super().forward(x)
        if len(mask_tokens) != 1:
            raise ValueError('a masked image needs one mask token, got '
                             f'{len(mask_tokens)}')
        visible = x * (1 - resize_mask(mask, x.shape[-2:]))
        embedding = self.forward_stem(visible)  # Eq. 1
        first = insert_mask_token(embedding, mask, mask_tokens[0])  # Eq. 2
        return first, *self.forward_stages(first)  # Eq. 3


def insert_mask_token(embedding: Tensor, mask: Tensor,
                      mask_token: Tensor) -> Tensor:
    """Put the mask token (1, D, 1, 1) at masked places, Eq. 2.

    ``embedding`` is the output of the stem, (B, D, H, W), ``mask``
    (B, 1, h, w), 1 = masked.
    """
    masked = resize_mask(mask, embedding.shape[-2:]).to(embedding.dtype)
    return _Insertion.apply(embedding, masked, mask_token.to(embedding.dtype))


class _Insertion(torch.autograd.Function):
    """Each way one pass over the finest map, and no copy of it."""

    @staticmethod
    def forward(ctx, embedding: Tensor, masked: Tensor, token: Tensor
                ) -> Tensor:
        ctx.save_for_backward(masked)
        return torch.lerp(embedding, token, masked)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, Tensor]:
        masked, = ctx.saved_tensors
        # Summed by a matrix product of what lies innermost in memory.
        if gradient.is_contiguous(memory_format=torch.channels_last):
            total = masked.view(1, -1) @ gradient.permute(
                0, 2, 3, 1).flatten(0, 2)
        else:
            total = (gradient.flatten(2) @ masked.flatten(2).transpose(
                1, 2)).sum(dim=0)
        return gradient * (1 - masked), None, total.view(1, -1, 1, 1)


@dataclass(frozen=True)
class Levels:
    """Geometry of an encoder's embeddings, one value per level.

    Strides are pixels per feature, offsets the pixel index of the first
    feature's receptive-field centre.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    offsets: tuple[float, ...]


@torch.no_grad()
def probe_levels(backbone: torch.nn.Module, in_channels: int,
                 image_size: int = 64) -> Levels:
    """Measure an encoder's levels, finest first, with one small image.

    Its side in pixels is a multiple of all strides. A ValueError says where
    the backbone does not fulfil the contract.
    """
    if not isinstance(backbone, MaskedBackbone):
        raise ValueError(
            f'{type(backbone).__name__} is not a CMIM encoder: it has to '
            'subclass mmmedmask.models.cmim.MaskedBackbone and implement '
            'forward_stem and forward_stages')
    with _evaluated(backbone):
        stem = backbone.forward_stem(next(backbone.parameters()).new_zeros(
            1, in_channels, image_size, image_size))
        maps = (stem, *backbone.forward_stages(stem))
    for number, level in enumerate(maps, start=1):
        height, width = level.shape[-2:]
        if height != width or image_size % width:
            raise ValueError(
                f'level {number} of {type(backbone).__name__} has the size '
                f'{(height, width)} for an image of {image_size} x '
                f'{image_size} pixels, which is not a whole stride')
    strides = tuple(image_size // level.shape[-1] for level in maps)
    return Levels(tuple(level.shape[1] for level in maps), strides,
                  tuple(map(backbone.receptive_field_offset, strides)))


def freeze_unread(backbone: torch.nn.Module, mask_tokens: Sequence[Tensor],
                  levels: Sequence[int], in_channels: int,
                  image_size: int = 64) -> None:
    """Freeze what serves none of the levels that are read, 1 the finest.

    Tokens and norms of single levels: their gradient would never come, and
    distributed training waits for it. One small image shows which they are.
    """
    images = next(backbone.parameters()).new_zeros(
        1, in_channels, image_size, image_size)
    with _evaluated(backbone), torch.enable_grad():
        embeddings = backbone(images, images[:, :1, :1, :1], mask_tokens)
        sum(embeddings[level - 1].sum() for level in levels).backward()
    for parameter in (*backbone.parameters(), *mask_tokens):
        if parameter.grad is None:
            parameter.requires_grad_(False)
        parameter.grad = None


@contextmanager
def _evaluated(network: torch.nn.Module) -> Iterator[None]:
    """Evaluate a network; then each part is in its mode again."""
    training = {name: module.training
                for name, module in network.named_modules()}
    network.eval()
    try:
        yield
    finally:
        for name, module in network.named_modules():
            module.training = training[name]


class MaskedResNetMixin(PretrainedLast, MaskedBackbone):
    """Stem and stages of mmpretrain's ResNets, whose arguments follow.

    ``mask_at='conv1'`` puts the token in after the first convolution, its
    norm and activation (half resolution, N = 5 levels), ``'maxpool'`` after
    the pooling (quarter resolution).
    """

    def __init__(self, *args, mask_at: str = 'conv1', **kwargs) -> None:
        check_choice('mask_at', mask_at, MASK_POSITIONS)
        super().__init__(*args, **kwargs)
        self.mask_at = mask_at

    def receptive_field_offset(self, stride: int) -> float:
        """Centre of the first feature: pixel 0, but for pooled shortcuts.

        ``avg_down`` (ResNet-V1d) pools 2x2 features in the shortcut, whose
        centre lies half a feature further than the main path's. Half of
        the signal takes it at strides 8, 16 and 32: 1, 3 and 7 pixels.
        """
        return max(0.0, stride / 4 - 1) if self.avg_down else 0.0

    def forward_stem(self, images: Tensor) -> Tensor:
        """Embed images: convolution(s), norm, ReLU (and pooling)."""
        embedding = self.stem(images) if self.deep_stem else self.relu(
            self.norm1(self.conv1(images)))
        return embedding if self.mask_at == 'conv1' else self.maxpool(
            embedding)

    def forward_stages(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """Apply the pooling, if it is not in the stem, and all stages."""
        if self.mask_at == 'conv1':
            embedding = self.maxpool(embedding)
        outputs = []
        for name in self.res_layers:
            embedding = getattr(self, name)(embedding)
            outputs.append(embedding)
        return tuple(outputs)


@MODELS.register_module()
class CMIMResNet(MaskedResNetMixin, ResNet):
    """mmpretrain's ResNet as a CMIM encoder; same weights, same keys."""


@MODELS.register_module()
class CMIMResNetV1c(MaskedResNetMixin, ResNetV1c):
    """mmpretrain's ResNetV1c (three-convolution stem) as CMIM encoder."""


@MODELS.register_module()
class CMIMResNetV1d(MaskedResNetMixin, ResNetV1d):
    """mmpretrain's ResNetV1d (V1c plus pooled shortcuts) as CMIM encoder."""


@MODELS.register_module()
class CMIMConvNeXt(MaskedBackbone, ConvNeXt):
    """mmpretrain's ConvNeXt as a CMIM encoder.

    The stem is the patch embedding (4x4 patches and layer norm), so the first
    two levels have the same resolution, and a feature sits exactly at the
    centre of its cell (the padded 7x7 convolutions and the unpadded 2x2 ones
    both keep it there). Outputs of the stages in ``out_indices`` go through
    their norms, as they do in a detector. ``gap_before_final_norm`` must stay
    False, the maps are needed.
    """

    def __init__(self, *args, out_indices: Sequence[int] = (0, 1, 2, 3),
                 gap_before_final_norm: bool = False, **kwargs) -> None:
        check_choice('gap_before_final_norm', gap_before_final_norm, [False])
        for index in check_indices('out_indices', out_indices):
            check_choice('each of out_indices', index, range(4))
        super().__init__(*args, out_indices=list(out_indices),
                         gap_before_final_norm=False, **kwargs)

    def receptive_field_offset(self, stride: int) -> float:
        """Patches do not overlap: the centre of the first cell."""
        return (stride - 1) / 2

    def forward_stem(self, images: Tensor) -> Tensor:
        """Embed patches."""
        return self.downsample_layers[0](images)

    def forward_stages(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """Apply all stages with their output norms."""
        outputs = []
        for index, stage in enumerate(self.stages):
            if index > 0:
                embedding = self.downsample_layers[index](embedding)
            embedding = stage(embedding)
            normed = index in self.out_indices
            outputs.append(getattr(self, f'norm{index}')(embedding)
                           if normed else embedding)
        return tuple(outputs)
