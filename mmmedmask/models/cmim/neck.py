"""CMIM's decoder: levels to one map (Eq. 5), one transformer block (Eq. 6)."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmpretrain.models.backbones.vision_transformer import (
    TransformerEncoderLayer,
)
from torch import Tensor, nn

from mmmedmask.functional.affine import receptive_field_shift
from mmmedmask.functional.patchify import sincos_position_embedding, unpatchify
from mmmedmask.functional.warp import WARP_IMPLEMENTATIONS, warp_features
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import (
    check_choice,
    check_integer,
    check_multiple,
    check_numbers,
)

FEATURE_ALIGNMENTS = ('rf', 'cell')
# Hidden width of a block over its own, as in MAE.
MLP_RATIO = 4


@MODELS.register_module()
class CMIMNeck(BaseModule):
    """Warp the levels, add them up at one size, decode pixels.

    Args:
        in_channels: Channels of each level, finest first. CMIM fills this,
            ``strides`` and ``offsets`` in, see
            :class:`~mmmedmask.models.cmim.Levels`.
        embed_dims: Channels of the decoder, a multiple of 4.
        depth: Number of transformer blocks (the paper has one).
        out_stride: Pixels per decoder token; each token predicts a patch of
            this size. Levels that are coarser are brought up by a
            transposed convolution.
        feat_align: ``'rf'`` warps features where their receptive fields are
            centred, ``'cell'`` as if they sat at the centres of their cells
            (the paper's literal form, off by stride - 1 pixels under flips
            for a ResNet).
        warp_impl: ``'separable'``, ``'grid'`` or ``'auto'`` (separable
            where every view of the batch is axis-aligned).
        levels: Numbers i of the levels ``z_i`` that are decoded, 1 the
            finest; None takes all, as Eq. 5 does. CMIM needs the coarsest
            among them.
        init_cfg: Xavier for linear layers as in MAE's decoder, PyTorch's own
            for convolutions.

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(self, in_channels: Sequence[int], strides: Sequence[int],
                 offsets: Sequence[float], out_channels: int = 3,
                 embed_dims: int = 256, num_heads: int = 16, depth: int = 1,
                 out_stride: int = 32, feat_align: str = 'rf',
                 warp_impl: str = 'auto', levels: Sequence[int] | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg or dict(type='Xavier', layer='Linear',
                                          distribution='uniform'))
        if not len(in_channels) == len(strides) == len(offsets):
            raise ValueError(
                'in_channels, strides and offsets need one value per level, '
                f'got {len(in_channels)}, {len(strides)} and {len(offsets)}')
        check_integer('depth', depth)
        check_integer('out_channels', out_channels)
        check_multiple('embed_dims', embed_dims, 4)
        check_multiple('embed_dims', embed_dims, num_heads, 'num_heads')
        numbers = range(1, len(strides) + 1)
        self.levels = tuple(numbers if levels is None else levels)
        if not self.levels or list(self.levels) != sorted(
                set(self.levels) & set(numbers)):
            raise ValueError('levels must be rising numbers of '
                             f'{list(numbers)}, at least one, got {levels}')
        self.strides = tuple(strides)
        self.offsets = tuple(check_numbers('offsets', offsets))
        self.embed_dims = embed_dims
        self.out_stride = check_integer('out_stride', out_stride)
        self.feat_align = check_choice('feat_align', feat_align,
                                       FEATURE_ALIGNMENTS)
        self.warp_impl = check_choice('warp_impl', warp_impl,
                                      WARP_IMPLEMENTATIONS)
        self.unify = nn.ModuleList(
            unify_size(in_channels[level - 1], embed_dims, strides[level - 1],
                       out_stride) for level in self.levels)
        self.blocks = nn.Sequential(*(TransformerEncoderLayer(
            embed_dims, num_heads, feedforward_channels=MLP_RATIO * embed_dims,
            norm_cfg=dict(type='LN', eps=1e-6)) for _ in range(depth)))
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6)
        self.predict = nn.Linear(embed_dims, out_stride**2 * out_channels)
        self._positions: dict[tuple, Tensor] = {}

    def warp(self, embeddings: Sequence[Tensor], theta: Tensor,
             separable: bool) -> tuple[Tensor, ...]:
        """Bring the chosen levels from the query's grid to the key's, Eq. 4.

        ``embeddings`` are (B, C_i, H_i, W_i), ``theta`` (B, 3, 3), float32,
        leads from key to query. A ValueError if ``warp_impl='separable'``
        meets rotated views.
        """
        if self.warp_impl == 'separable' and not separable:
            raise ValueError(
                "warp_impl='separable' needs views that are not rotated or "
                "sheared; use warp_impl='auto' or set max_angle and "
                'max_shear to 0')
        separable = separable and self.warp_impl != 'grid'
        image_size = tuple(
            side * self.strides[0] for side in embeddings[0].shape[-2:])
        warped = []
        for level in self.levels:
            shift = (0.0, 0.0)
            if self.feat_align == 'rf':
                shift = receptive_field_shift(
                    self.offsets[level - 1], self.strides[level - 1],
                    image_size)
            warped.append(warp_features(
                embeddings[level - 1], theta, separable, shift))
        return tuple(warped)

    def combine(self, embeddings: Sequence[Tensor]) -> Tensor:
        """Multi-scale embedding ``sum_i Conv_i(z_i)``, Eq. 5, (B, D, h, w)."""
        return sum(
            unify(embedding)
            for unify, embedding in zip(self.unify, embeddings, strict=True))

    def decode(self, embedding: Tensor) -> Tensor:
        """Reconstruct pixels, ``d`` of Eq. 6.

        From (B, D, h, w) to (B, C, h * out_stride, w * out_stride).
        """
        grid_size = tuple(embedding.shape[-2:])
        tokens = embedding.flatten(2).transpose(1, 2)
        tokens = self.blocks(tokens + self.positions(grid_size, tokens))
        return unpatchify(
            self.predict(self.norm(tokens)), self.out_stride, grid_size)

    def positions(self, grid_size: tuple[int, int], like: Tensor) -> Tensor:
        """Embedding of the tokens' positions, (1, h * w, D), as ``like``.

        Kept once made: copying it to a GPU in every step would make the host
        wait until the encoder is done. It is not in the state dict.
        """
        key = (grid_size, like.device, like.dtype)
        if key not in self._positions:
            self._positions[key] = sincos_position_embedding(
                grid_size, self.embed_dims).to(like)
        return self._positions[key]

    def forward(self, embeddings: Sequence[Tensor]) -> Tensor:
        """Combine and decode warped levels, Eq. 5 and 6."""
        return self.decode(self.combine(embeddings))


def unify_size(in_channels: int, embed_dims: int, stride: int,
               out_stride: int) -> nn.Module:
    """One ``Conv_i`` of Eq. 5: from a level's stride to the decoder's.

    A convolution whose kernel equals its stride, or a transposed one.
    """
    if out_stride % stride == 0:
        step = out_stride // stride
        return PatchConv2d(in_channels, embed_dims, step)
    if stride % out_stride == 0:
        step = stride // out_stride
        return nn.ConvTranspose2d(in_channels, embed_dims, step, step)
    raise ValueError(f'out_stride {out_stride} and the stride {stride} of a '
                     'level must divide one another')


class PatchConv2d(nn.Conv2d):
    """``Conv2d(kernel_size=s, stride=s)`` with the same weights, but faster.

    Patches do not overlap, so the convolution is a linear map of each patch.
    As a matrix product it takes a half to a quarter of the convolution's
    time on a CPU for the large kernels that CMIM has on its finest levels.
    """

    def __init__(self, in_channels: int, out_channels: int,
                 patch_size: int) -> None:
        super().__init__(in_channels, out_channels, patch_size, patch_size)
        self.patch_size = patch_size

    def forward(self, inputs: Tensor) -> Tensor:
        """Embed patches: (B, C, H, W) to (B, D, H // s, W // s).

        Rows and columns that fill no patch are left out, as by Conv2d.
        """
        size = self.patch_size
        rows, columns = (side // size for side in inputs.shape[2:])
        patches = inputs[..., :rows * size, :columns * size]
        patches = patches.unflatten(3, (columns, size)).unflatten(
            2, (rows, size))
        weight = self.weight
        # Whatever lies innermost in memory stays innermost in a patch.
        if inputs.is_contiguous(memory_format=torch.channels_last):
            patches = patches.permute(0, 2, 4, 3, 5, 1)
            weight = weight.permute(0, 2, 3, 1)
        else:
            patches = patches.permute(0, 2, 4, 1, 3, 5)
        outputs = nn.functional.linear(
            patches.flatten(3).flatten(1, 2), weight.flatten(1), self.bias)
        return outputs.transpose(1, 2).unflatten(2, (rows, columns))
