"""Pictures of inputs, reconstructions and results, and the report."""

from mmmedmask.visualization.attention_pictures import (
    attention_columns,
    draw_attention_panel,
)
from mmmedmask.visualization.grid import Column, draw_grid
from mmmedmask.visualization.instances import draw_instances
from mmmedmask.visualization.pictures import PictureUnits
from mmmedmask.visualization.reconstruction import (
    draw_reconstruction_panel,
    reconstruct,
    reconstruction_columns,
    view_columns,
)

__all__ = [
    'Column', 'PictureUnits', 'attention_columns', 'draw_attention_panel',
    'draw_grid', 'draw_instances', 'draw_reconstruction_panel', 'reconstruct',
    'reconstruction_columns', 'view_columns'
]
