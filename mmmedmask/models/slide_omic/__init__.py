"""What GiMP and the bag classifiers share: classifier, fusions and heads."""

from mmmedmask.models.slide_omic.classifier import SlideOmicClassifier
from mmmedmask.models.slide_omic.fusion import ConcatFusion, KroneckerFusion
from mmmedmask.models.slide_omic.heads import (
    ClasswiseSlideOmicHead,
    SlideOmicHead,
)

__all__ = [
    'ClasswiseSlideOmicHead', 'ConcatFusion', 'KroneckerFusion',
    'SlideOmicClassifier', 'SlideOmicHead'
]
