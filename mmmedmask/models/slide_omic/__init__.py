"""What GiMP and the bag classifiers share: preprocessor, classifier, heads.

Constructors raise a ValueError that names an argument outside its range.
"""

from mmmedmask.models.slide_omic.classifier import SlideOmicClassifier
from mmmedmask.models.slide_omic.fusion import ConcatFusion, KroneckerFusion
from mmmedmask.models.slide_omic.gene_scale import GeneScale
from mmmedmask.models.slide_omic.heads import (
    ClasswiseSlideOmicHead,
    CoxHead,
    SlideOmicHead,
)
from mmmedmask.models.slide_omic.preprocessor import SlideOmicDataPreprocessor

__all__ = ['ClasswiseSlideOmicHead', 'ConcatFusion', 'CoxHead', 'GeneScale',
           'KroneckerFusion', 'SlideOmicClassifier',
           'SlideOmicDataPreprocessor', 'SlideOmicHead']
