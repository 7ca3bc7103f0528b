"""Transforms of data pipelines."""

from mmmedmask.datasets.transforms.tile_loading import LoadTile, PackTile

__all__ = ['LoadTile', 'PackTile']
