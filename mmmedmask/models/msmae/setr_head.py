"""The SETR head with which MSMAE's authors segment lesions.

Needs mmseg, and is therefore no part of ``mmmedmask.models``: configs that
use it name this module in ``custom_imports``.
"""

from collections.abc import Mapping, Sequence

from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_integer, check_range


@MODELS.register_module()
class PlainSETRHead(BaseDecodeHead):
    """Progressive upsampling, one lesion channel, nothing else.

    The geometry of MSMAE's released code: ``num_convs`` times 3x3
    convolution, BatchNorm, ReLU and twofold bilinear upsampling (corners
    aligned), then a 3x3 convolution to one channel. SETR-PUP proper
    (``mmseg.SETRUPHead``) begins with a LayerNorm, does not align corners,
    ends with a 1x1 convolution, and is trained with auxiliary heads. Here the
    features of one layer are used as they are, without dropout.

    The convolutions before BatchNorm have no bias, as it would subtract it.

    Args:
        num_convs: Convolutions, at least 1, each followed by an upsampling;
            ``2**num_convs`` should be the patch size.
        threshold: Probability above which a pixel is predicted as lesion, in
            (0, 1).
        norm_cfg: Normalisation after each convolution but the last; None is
            SyncBN, which on a single device is BN.
        loss_decode: The loss, or several; None is ``mmmedmask.BCEDiceLoss``.
    """

    def __init__(self, in_channels: int = 768, channels: int = 256,
                 num_convs: int = 4, threshold: float = 0.5,
                 norm_cfg: Mapping | None = None,
                 loss_decode: Mapping | Sequence[Mapping] | None = None,
                 init_cfg: dict | list[dict] | None = None) -> None:
        check_integer('num_convs', num_convs)
        check_range('threshold', threshold, 0, 1, True, True)
        # Corners are for the way back to the original size, which has to undo
        # the pipeline's resizing; the head's own upsampling is below.
        super().__init__(
            in_channels=in_channels, channels=channels, num_classes=2,
            out_channels=1, threshold=threshold, dropout_ratio=0,
            norm_cfg=norm_cfg or dict(type='SyncBN', requires_grad=True),
            loss_decode=loss_decode or dict(type='mmmedmask.BCEDiceLoss'),
            align_corners=False, init_cfg=init_cfg)
        self.blocks = nn.Sequential(*(nn.Sequential(
            ConvModule(in_channels if number == 0 else channels, channels,
                       kernel_size=3, padding=1, norm_cfg=self.norm_cfg,
                       act_cfg=self.act_cfg),
            nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True))
            for number in range(num_convs)))
        self.conv_seg = nn.Conv2d(channels, 1, kernel_size=3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Predict the logits of the lesion.

        From feature maps (B, C, h, w) to (B, 1, h * s, w * s) with s =
        ``2**num_convs``.
        """
        return self.cls_seg(self.blocks(self._transform_inputs(features)))
