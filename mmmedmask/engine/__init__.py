"""Hooks, samplers, optimizer wrappers and their constructors."""

from mmmedmask.engine import hooks, samplers
from mmmedmask.engine.layer_decay import BackboneLayerDecayConstructor
from mmmedmask.engine.optim_wrapper import Bfloat16OptimWrapper

__all__ = [
    'BackboneLayerDecayConstructor', 'Bfloat16OptimWrapper', 'hooks',
    'samplers'
]
