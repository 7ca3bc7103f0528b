"""A plain vision transformer that attends within windows, for large images.

Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection"
(ViTDet, ECCV 2022), section 3: few layers attend to the whole image, evenly
spaced, and carry what the windows see from one to the other.
"""

import torch
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from mmmedmask.functional.windows import in_windows
from mmmedmask.models.layers.frozen_stages import FrozenStages
from mmmedmask.models.layers.pretrained_last import PretrainedLast
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_integer


class WindowedLayers(FrozenStages, PretrainedLast):
    """Forward pass of mmpretrain's plain transformers, within windows.

    The parameters are those of the plain transformer, whose weights load in
    full. ViTDet's relative positions, which they do not know, are left out.
    """

    def set_windows(self, window_size: int | None,
                    num_global_layers: int) -> None:
        """Say which layers attend within windows, see :class:`WindowedViT`."""
        count = len(self.layers)
        if window_size is not None:
            check_integer('window_size', window_size)
        check_integer('num_global_layers', num_global_layers, 1, count)
        self.window_size = window_size
        self.global_layers = frozenset(
            range(count) if window_size is None else
            ((part + 1) * count // num_global_layers - 1
             for part in range(num_global_layers)))

    def run_layer(self, layer: nn.Module, tokens: Tensor) -> Tensor:
        """Run a layer on sequences (B, N, C)."""
        return layer(tokens)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encode images (B, 3, H, W): the outputs of ``out_indices``."""
        x, grid = self.patch_embed(x)
        if self.cls_token is not None:
            # A traced graph would keep len(x).
            token = self.cls_token.expand(x.shape[0], -1, -1)
            x = torch.cat([token, x], dim=1)
        x = self.drop_after_pos(x + resize_pos_embed(
            self.pos_embed, self.patch_resolution, grid,
            mode=self.interpolate_mode,
            num_extra_tokens=self.num_extra_tokens))
        x = self.pre_norm(x) if hasattr(self, 'pre_norm') else x
        outputs = []
        for number, layer in enumerate(self.layers):
            if number in self.global_layers:
                x = self.run_layer(layer, x)
            else:
                x = in_windows(
                    lambda tokens, layer=layer: self.run_layer(layer, tokens),
                    x, tuple(grid), self.window_size, self.num_extra_tokens)
            if number == len(self.layers) - 1 and self.final_norm:
                x = self.ln1(x)
            if number in self.out_indices:
                outputs.append(self._format_output(x, grid))
        return tuple(outputs)


@MODELS.register_module()
class WindowedViT(WindowedLayers, VisionTransformer):
    """mmpretrain's ``VisionTransformer`` with ViTDet's windows.

    The class token goes into every window and comes out as the mean. A
    ValueError if a number is not positive, or there are fewer layers.

    Args:
        window_size: Patches along a side of a window; None has no windows.
        num_global_layers: Layers that attend to the whole image in any case,
            each the last of as many equal parts; ViTDet has four.
        options: Arguments of ``VisionTransformer``.
    """

    def __init__(self, *, window_size: int | None = 14,
                 num_global_layers: int = 4, **options) -> None:
        super().__init__(**options)
        self.set_windows(window_size, num_global_layers)
