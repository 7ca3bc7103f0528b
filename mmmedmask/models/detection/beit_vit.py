"""BEiT's vision transformer with attention that never stores its weights."""

import torch
import torch.nn.functional as F
from mmpretrain.models.backbones import BEiTViT
from mmpretrain.models.utils import BEiTAttention
from torch import Tensor, nn

from mmmedmask.models.detection.windowed_vit import WindowedLayers
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import (
    check_integer,
    check_range,
    check_rate,
    check_size,
)
from mmmedmask.util.nested import split_init


class FusedBEiTAttention(BEiTAttention):
    """BEiT's attention by PyTorch's fused kernel, with the same parameters.

    mmpretrain's own keeps the (N, N) weights of all heads and layers for the
    backward pass: 17 GB for two images of 1024 x 1333 pixels and a ViT-S.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__(embed_dims=embed_dims, num_heads=num_heads,
                         window_size=None, use_rel_pos_bias=False)

    def forward(self, x: Tensor, rel_pos_bias: Tensor | None = None) -> Tensor:
        """Attend: tokens (B, N, C) to tokens (B, N, C).

        ``rel_pos_bias`` (heads, N, N) is shared by all layers.
        """
        # Keys have no bias: it would be the same for all of them.
        bias = torch.cat(
            (self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
        qkv = F.linear(x, self.qkv.weight, bias)
        query, key, value = qkv.unflatten(
            -1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=rel_pos_bias, scale=self.scale)
        return self.proj(mixed.transpose(1, 2).flatten(2))


@MODELS.register_module()
class BEiTFeatureViT(WindowedLayers, BEiTViT):
    """The backbone that ``BEiTPretrainViT`` leaves, for images of any size.

    It is mmpretrain's ``BEiTViT`` with absolute position embeddings, which
    are interpolated to each image's grid. Relative position biases belong to
    one grid: with other sizes mmpretrain's fail in the forward pass, and
    resizing their tables needs a function that SciPy has removed. So there
    are none here, and pre-training has to do without them, too.

    Args:
        arch: Name of mmpretrain's architecture; ViT-S is ``'deit-small'``
            (its ``'small'`` is 768 wide). Or a dict with ``embed_dims``,
            ``num_layers``, ``num_heads`` and ``feedforward_channels``.
        img_size: Side in pixels, or (h, w), of pre-training's images.
        drop_path_rate: Stochastic depth of the last layer, in [0, 1).
        layer_scale_init_value: As in pre-training; 0 has no layer scale.
        final_norm: Whether the last layer's output is normalised.
        out_type: ``'featmap'`` (B, C, h, w), ``'raw'`` (B, 1 + N, C),
            ``'avg_featmap'`` or ``'cls_token'`` (B, C).
        window_size: Patches along a side of a window, as ViTDet's; None lets
            all layers attend to the whole image.
        num_global_layers: Layers that do so in any case.
        frozen_stages: Layers that are not trained and have no dropout; -1
            trains all.
    """

    def __init__(self, arch: str | dict = 'deit-small',
                 img_size: int | tuple[int, int] = 224, patch_size: int = 16,
                 in_channels: int = 3, drop_path_rate: float = 0.0,
                 layer_scale_init_value: float = 0.1, final_norm: bool = False,
                 out_type: str = 'featmap', frozen_stages: int = -1,
                 window_size: int | None = None, num_global_layers: int = 4,
                 init_cfg: dict | list[dict] | None = None) -> None:
        check_size('img_size', img_size)
        check_integer('patch_size', patch_size)
        check_integer('in_channels', in_channels)
        check_rate('drop_path_rate', drop_path_rate)
        check_range('layer_scale_init_value', layer_scale_init_value, 0)
        check_integer('frozen_stages', frozen_stages, -1)
        super().__init__(
            arch=arch, img_size=img_size, patch_size=patch_size,
            in_channels=in_channels, drop_path_rate=drop_path_rate,
            final_norm=final_norm, out_type=out_type,
            frozen_stages=frozen_stages, use_abs_pos_emb=True,
            use_rel_pos_bias=False, use_shared_rel_pos_bias=False,
            layer_scale_init_value=layer_scale_init_value, init_cfg=init_cfg)
        for layer in self.layers:
            layer.attn = FusedBEiTAttention(self.embed_dims,
                                            self.arch_settings['num_heads'])
        if frozen_stages > 0:
            self._freeze_stages()  # The new attention, too.
        self.set_windows(window_size, num_global_layers)

    def run_layer(self, layer: nn.Module, tokens: Tensor) -> Tensor:
        """Run a layer, which has no relative positions."""
        return layer(tokens, None)

    def init_weights(self) -> None:
        """Initialise; the class token as in pre-training."""
        super().init_weights()
        if not split_init(self.init_cfg)[0]:
            nn.init.trunc_normal_(self.cls_token, std=0.02)
