"""Metrics."""

from mmmedmask.evaluation.binary_segmentation import BinarySegMetric
from mmmedmask.evaluation.disease_classification import DiseaseClassification
from mmmedmask.evaluation.lesion_coverage import LesionCoverage

__all__ = ['BinarySegMetric', 'DiseaseClassification', 'LesionCoverage']
