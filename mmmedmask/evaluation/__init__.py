"""Metrics."""

from mmmedmask.evaluation.disease_classification import DiseaseClassification

__all__ = ['DiseaseClassification']
