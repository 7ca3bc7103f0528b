"""MSMAE: masking driven by supervised attention (arXiv 2305.05871).

Constructors raise a ValueError that names an argument outside its range.
"""

from mmmedmask.models.msmae.attention import (
    class_token_attention,
    normalize_attention,
)
from mmmedmask.models.msmae.classifier import MSMAEClassifier, patch_logits
from mmmedmask.models.msmae.decoder import MSMAEDecoder
from mmmedmask.models.msmae.encoder import MSMAEViT
from mmmedmask.models.msmae.head import MSMAEHead
from mmmedmask.models.msmae.msmae import MSMAE
from mmmedmask.models.msmae.segmentation_loss import BCEDiceLoss

__all__ = ['BCEDiceLoss', 'MSMAE', 'MSMAEClassifier', 'MSMAEDecoder',
           'MSMAEHead', 'MSMAEViT', 'class_token_attention',
           'normalize_attention', 'patch_logits']
