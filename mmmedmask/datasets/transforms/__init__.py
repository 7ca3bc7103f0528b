"""Transforms of data pipelines."""

from mmmedmask.datasets.transforms.cmim_views import CMIMTwoViews
from mmmedmask.datasets.transforms.color_jitter import ColorJitter
from mmmedmask.datasets.transforms.content_crops import ContrastiveCrop
from mmmedmask.datasets.transforms.lesion_labels import (
    LoadLesionMask,
    RandomRotate90,
)
from mmmedmask.datasets.transforms.recorded_crops import (
    RandomFlip,
    RandomResizedCrop,
    ResizeImage,
)
from mmmedmask.datasets.transforms.slide_bags import (
    ContiguousSubsequence,
    GenerateSequenceMask,
    LoadExpression,
    LoadSlideFeatures,
    PackSlideOmicInputs,
    RandomSubsample,
)
from mmmedmask.datasets.transforms.tile_loading import (
    LoadImageFromFile,
    LoadTile,
    PackTile,
)

__all__ = ['CMIMTwoViews', 'ColorJitter', 'ContiguousSubsequence',
           'ContrastiveCrop', 'GenerateSequenceMask', 'LoadExpression',
           'LoadImageFromFile', 'LoadLesionMask', 'LoadSlideFeatures',
           'LoadTile', 'PackSlideOmicInputs', 'PackTile', 'RandomFlip',
           'RandomResizedCrop', 'RandomRotate90', 'RandomSubsample',
           'ResizeImage']
