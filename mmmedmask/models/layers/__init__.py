"""Bricks that the models of two or more methods use."""

from mmmedmask.models.layers.bags import check_padded_bags, without_padding

__all__ = ['check_padded_bags', 'without_padding']
