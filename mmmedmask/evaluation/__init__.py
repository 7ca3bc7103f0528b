"""Metrics."""

from mmmedmask.evaluation.binary_segmentation import BinarySegMetric
from mmmedmask.evaluation.disease_classification import DiseaseClassification
from mmmedmask.evaluation.slide_classification import SlideClassification
from mmmedmask.evaluation.survival_concordance import SurvivalConcordance

__all__ = ['BinarySegMetric', 'DiseaseClassification', 'SlideClassification',
           'SurvivalConcordance']
