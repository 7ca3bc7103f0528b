"""Hooks, samplers and optimizer wrappers."""

from mmmedmask.engine import hooks, samplers
from mmmedmask.engine.optim_wrapper import Bfloat16OptimWrapper

__all__ = ['Bfloat16OptimWrapper', 'hooks', 'samplers']
