"""MSMAE's encoder: a vision transformer that runs on some tokens only."""

from collections.abc import Sequence
from math import isqrt

import torch
import torch.nn.functional as F
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from mmmedmask.functional import patchify
from mmmedmask.models.layers.frozen_stages import FrozenStages
from mmmedmask.models.layers.pretrained_last import PretrainedLast
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_integer, check_rate, check_size
from mmmedmask.util.nested import split_init


@MODELS.register_module()
class MSMAEViT(FrozenStages, PretrainedLast, VisionTransformer):
    """Vision transformer for pre-training and fine-tuning with MSMAE.

    Parameters have the names of mmpretrain's ViT. Without ``visible_ids`` it
    is that ViT; with them, only the visible patches are embedded and encoded.

    Args:
        arch: Name of mmpretrain's architecture (``'deit-tiny'``,
            ``'deit-small'``, ``'base'``, ...), or a dict with ``embed_dims``,
            ``num_layers``, ``num_heads`` and ``feedforward_channels``.
        img_size: Side of the images in pixels, or (h, w).
        patch_size: Side of a patch in pixels, or (h, w); divides the image.
        out_indices: Layers whose output is returned.
        drop_rate: Dropout after embedding and in the MLPs, in [0, 1).
        drop_path_rate: Stochastic depth of the last layer, in [0, 1).
        norm_cfg: Normalisation; None is LayerNorm with eps 1e-6.
        out_type: ``'raw'`` (B, 1 + L, C) for pre-training, ``'avg_featmap'``
            (mean of the patch tokens, normalised) or ``'cls_token'`` for
            classification, ``'featmap'`` (B, C, h, w) for segmentation, where
            patches have to divide the images; ``size_divisor`` of mmseg's
            preprocessor pads them, and predictions are cut again.
        frozen_stages: Layers that are not trained and have no dropout; -1
            trains all.
        fixed_pos_embed: Sine-cosine position embedding that is not trained,
            as in pre-training. False trains it, as in fine-tuning.
    """

    def __init__(self, arch: str | dict = 'base',
                 img_size: int | Sequence[int] = 224,
                 patch_size: int | Sequence[int] = 16, in_channels: int = 3,
                 out_indices: int | Sequence[int] = -1, drop_rate: float = 0.0,
                 drop_path_rate: float = 0.0, norm_cfg: dict | None = None,
                 final_norm: bool = True, out_type: str = 'raw',
                 frozen_stages: int = -1, fixed_pos_embed: bool = True,
                 init_cfg: dict | list[dict] | None = None) -> None:
        img_size = check_size('img_size', img_size)
        patch_size = check_size('patch_size', patch_size)
        check_integer('in_channels', in_channels)
        check_rate('drop_rate', drop_rate)
        check_rate('drop_path_rate', drop_path_rate)
        check_integer('frozen_stages', frozen_stages, -1)
        patchify.patch_grid_size(img_size, patch_size)
        # mmpretrain writes into the list.
        if not isinstance(out_indices, int):
            out_indices = list(out_indices)
            if not out_indices:
                raise ValueError('out_indices must name a layer, got none')
        super().__init__(
            arch=arch, img_size=img_size, patch_size=patch_size,
            in_channels=in_channels, out_indices=out_indices,
            drop_rate=drop_rate, drop_path_rate=drop_path_rate,
            norm_cfg=norm_cfg or dict(type='LN', eps=1e-6),
            final_norm=final_norm, out_type=out_type,
            frozen_stages=frozen_stages, init_cfg=init_cfg)
        self.in_channels = in_channels
        self.patch_size = patch_size
        self.fixed_pos_embed = fixed_pos_embed
        if fixed_pos_embed:
            self.pos_embed.requires_grad = False

    def init_weights(self) -> None:
        """Initialise as MAE does; a pre-trained checkpoint wins."""
        super().init_weights()
        if split_init(self.init_cfg)[0]:
            return
        if self.fixed_pos_embed:
            positions = patchify.sincos_position_embedding(
                self.patch_resolution, self.embed_dims)
            with torch.no_grad():
                self.pos_embed.copy_(F.pad(positions, (0, 0, 1, 0)))
        nn.init.xavier_uniform_(
            self.patch_embed.projection.weight.data.flatten(1))
        nn.init.normal_(self.cls_token, std=0.02)

    def forward(self, images: Tensor,
                visible_ids: Tensor | None = None) -> tuple[Tensor, ...]:
        """Encode images (B, C, H, W), normalised.

        ``visible_ids`` (B, V) are ids of the patches to encode, counted row by
        row; None encodes all. Gives one output per entry of ``out_indices``,
        see ``out_type``; with ``visible_ids`` the L patch tokens are the V
        visible ones, in that order, and there is no ``'featmap'``.
        """
        if visible_ids is None:
            if self.out_type == 'featmap':
                # mmpretrain would pad, and the map be taken for the image's.
                self.grid_size(images)
            return super().forward(images)
        if self.out_type == 'featmap':
            raise ValueError("out_type='featmap' needs all patches, got "
                             f'visible_ids of shape '
                             f'{tuple(visible_ids.shape)}')
        tokens = self.embed(images, visible_ids)
        outputs = []
        for index, layer in enumerate(self.layers):
            tokens = layer(tokens)
            if index == len(self.layers) - 1 and self.final_norm:
                tokens = self.ln1(tokens)
            if index in self.out_indices:
                outputs.append(self._format_output(tokens, None))
        return tuple(outputs)

    def embed(self, images: Tensor,
              visible_ids: Tensor | None = None) -> Tensor:
        """Turn images into the first layer's input.

        Gives the class token and the patch tokens with their positions,
        (B, 1 + V, C); see :meth:`forward`.
        """
        positions = resize_pos_embed(
            self.pos_embed, self.patch_resolution, self.grid_size(images),
            mode=self.interpolate_mode, num_extra_tokens=self.num_extra_tokens)
        if visible_ids is None:
            patches = self.patch_embed(images)[0] + positions[:, 1:]
        else:
            pixels = patchify.gather_patches(images, visible_ids,
                                             self.patch_size)
            projection = self.patch_embed.projection
            patches = F.linear(pixels.flatten(2), projection.weight.flatten(1),
                               projection.bias) + positions[0, 1:][visible_ids]
        class_token = self.cls_token + positions[:, :1]
        tokens = torch.cat(
            [class_token.expand(len(images), -1, -1), patches], dim=1)
        return self.pre_norm(self.drop_after_pos(tokens))

    def _prepare_pos_embed(self, state_dict: dict[str, Tensor],
                           prefix: str, *args) -> None:
        """Resize a checkpoint's positions, which have to be of a square.

        mmpretrain takes every grid for a square; for another one it would
        fail without saying why, or interpolate between wrong places. The
        sine-cosine positions of pre-training tell their grid; learned ones
        do not, and of the model's number they are taken for its grid.
        """
        positions = state_dict.get(f'{prefix}pos_embed')
        if positions is not None:
            fits = positions.shape == self.pos_embed.shape
            grid = self.patch_resolution if fits else None
            problem = misplacement(
                positions[0, self.num_extra_tokens:], grid,
                self.patch_resolution)
            if problem:
                rows, columns = self.patch_resolution
                raise ValueError(
                    f'{prefix}pos_embed of the checkpoint is of {problem}, '
                    f'and the model has {rows} x {columns}: interpolate it by '
                    'tools/model_converters/convert_mae_checkpoint.py '
                    '--source-grid ROWS COLUMNS')
        super()._prepare_pos_embed(state_dict, prefix, *args)

    def grid_size(self, images: Tensor) -> tuple[int, int]:
        """Patches of images (B, C, H, W) as (rows, columns)."""
        return patchify.patch_grid_size(images.shape[-2:], self.patch_size)


def misplacement(positions: Tensor, grid: tuple[int, int] | None,
                 target: tuple[int, int]) -> str | None:
    """Say why positions (L, C) are not of the grid they are taken for.

    They are taken for those of ``grid``, None is a square, and brought to
    ``target``. None if nothing speaks against it.
    """
    count = len(positions)
    side = isqrt(count)
    if grid is None and side**2 != count:
        return f'{count} patches, which is not a square'
    grid = tuple(grid or (side, side))
    shapes = [(rows, count // rows) for rows in range(1, count + 1)
              if count % rows == 0]
    quarter = positions.shape[1] // 4
    if positions.shape[1] % 4 == 0:
        # The shortest wavelength of rows and columns is the same for any C.
        given = positions[:, ::quarter].detach().cpu().float()
        for shape in shapes:
            if torch.allclose(given, patchify.sincos_position_embedding(
                    shape, 4)[0], atol=2e-3):
                return None if shape == grid else (
                    f'{shape[0]} x {shape[1]} patches')
    if count != target[0] * target[1]:
        for rows, columns in shapes:
            if rows * target[1] == columns * target[0] and (
                    rows, columns) != grid:
                return (f'{count} patches, which may be {grid[0]} x {grid[1]} '
                        f'or {rows} x {columns}')
    return None
