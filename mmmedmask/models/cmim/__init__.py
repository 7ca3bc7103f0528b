"""CMIM (WACV 2024): convolutional masked image modelling for pathology."""

from mmmedmask.models.cmim.backbones import (
    CMIMConvNeXt,
    CMIMResNet,
    CMIMResNetV1c,
    CMIMResNetV1d,
    Levels,
    MaskedBackbone,
    insert_mask_token,
    probe_levels,
)
from mmmedmask.models.cmim.cmim import CMIM
from mmmedmask.models.cmim.head import CMIMHead
from mmmedmask.models.cmim.neck import CMIMNeck
from mmmedmask.models.cmim.preprocessor import CMIMDataPreprocessor
from mmmedmask.models.cmim.sparse import CMIMSparseResNet

__all__ = ['CMIM', 'CMIMConvNeXt', 'CMIMDataPreprocessor', 'CMIMHead',
           'CMIMNeck', 'CMIMResNet', 'CMIMResNetV1c', 'CMIMResNetV1d',
           'CMIMSparseResNet', 'Levels', 'MaskedBackbone', 'insert_mask_token',
           'probe_levels']
