"""Simple feature pyramid: all levels from the last map of a plain ViT.

Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection"
(ViTDet, ECCV 2022), section 3 and appendix. Written from the paper; nothing
here needs mmdet, whose detectors take it as ``neck``.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.models.utils import LayerNorm2d
from torch import Tensor, nn

from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_integer, check_multiple

NORM_EPS = 1e-6


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Maps of strides 4, 8, 16 and 32 from one map of stride 16, and more.

    The map is enlarged 4 and 2 times by transposed convolutions of stride 2,
    kept, and halved by max-pooling. Each of the four then passes a 1x1 and a
    3x3 convolution, both followed by LayerNorm over the channels. Further
    levels take every other pixel of the last one, as mmdet's FPN does for the
    RPN. A ValueError if a number is outside its range.

    Args:
        in_channels: Channels C of the transformer's map, a multiple of 4.
        num_outs: Number of levels, at least 4.
        init_cfg: None keeps PyTorch's initialisation, as ViTDet does.
    """

    def __init__(self, in_channels: int, out_channels: int = 256,
                 num_outs: int = 5,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        check_multiple('in_channels', in_channels, 4)
        check_integer('out_channels', out_channels)
        self.num_outs = check_integer('num_outs', num_outs, 4)
        half, quarter = in_channels // 2, in_channels // 4
        resizings = (
            (nn.Sequential(_double(in_channels, half), _norm(half), nn.GELU(),
                           _double(half, quarter)), quarter),
            (_double(in_channels, half), half),
            (nn.Identity(), in_channels),
            (nn.MaxPool2d(2), in_channels))
        self.levels = nn.ModuleList(
            nn.Sequential(
                resizing,
                # LayerNorm takes a bias away and adds its own.
                nn.Conv2d(channels, out_channels, 1, bias=False),
                _norm(out_channels),
                nn.Conv2d(
                    out_channels, out_channels, 3, padding=1, bias=False),
                _norm(out_channels)) for resizing, channels in resizings)

    def forward(self, features: Tensor | Sequence[Tensor]
                ) -> tuple[Tensor, ...]:
        """Build ``num_outs`` maps (B, out_channels, h_i, w_i).

        From a map (B, C, h, w), or the last of several: (4h, 4w), (2h, 2w),
        (h, w) and (h // 2, w // 2); further ones halve the one before,
        rounded up. A ValueError names a map smaller than 2 x 2.
        """
        last = features if isinstance(features, Tensor) else features[-1]
        if min(last.shape[-2:]) < 2:
            raise ValueError('the map must be at least 2 x 2, got '
                             f'{tuple(last.shape[-2:])}')
        maps = [level(last) for level in self.levels]
        while len(maps) < self.num_outs:
            maps.append(F.max_pool2d(maps[-1], kernel_size=1, stride=2))
        return tuple(maps)


def _double(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(
        in_channels, out_channels, kernel_size=2, stride=2)


def _norm(channels: int) -> LayerNorm2d:
    return LayerNorm2d(channels, eps=NORM_EPS)
