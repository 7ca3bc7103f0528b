"""Pictures of inputs, reconstructions and results, and the report."""

from mmmedmask.visualization.attention_pictures import attention_columns
from mmmedmask.visualization.grid import Column, draw_grid
from mmmedmask.visualization.instances import draw_instances
from mmmedmask.visualization.pictures import PictureUnits
from mmmedmask.visualization.reconstruction import (
    reconstruct,
    reconstruction_columns,
    view_columns,
)
from mmmedmask.visualization.segmentation_visualizer import (
    SegmentationVisualizer,
)

__all__ = ['Column', 'PictureUnits', 'SegmentationVisualizer',
           'attention_columns', 'draw_grid', 'draw_instances', 'reconstruct',
           'reconstruction_columns', 'view_columns']
