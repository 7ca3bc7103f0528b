"""Hooks, loops, samplers, optimizer wrappers and their constructors."""

from mmmedmask.engine import hooks, samplers
from mmmedmask.engine.layer_decay import BackboneLayerDecayConstructor
from mmmedmask.engine.optim_wrapper import Bfloat16OptimWrapper
from mmmedmask.engine.probe_loop import ProbeLoop

__all__ = ['BackboneLayerDecayConstructor', 'Bfloat16OptimWrapper',
           'ProbeLoop', 'hooks', 'samplers']
