"""Metrics."""

from mmmedmask.evaluation.disease_classification import DiseaseClassification
from mmmedmask.evaluation.lesion_coverage import LesionCoverage

__all__ = ['DiseaseClassification', 'LesionCoverage']
