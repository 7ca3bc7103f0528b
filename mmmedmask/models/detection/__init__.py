"""What turns a plain vision transformer into a detector's backbone."""

from mmmedmask.models.detection.beit_vit import BEiTFeatureViT
from mmmedmask.models.detection.segment_anything import SegmentAnything
from mmmedmask.models.detection.simple_feature_pyramid import (
    SimpleFeaturePyramid,
)
from mmmedmask.models.detection.windowed_vit import WindowedViT

__all__ = ['BEiTFeatureViT', 'SegmentAnything', 'SimpleFeaturePyramid',
           'WindowedViT']
