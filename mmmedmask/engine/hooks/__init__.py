"""Hooks of the training and test loops."""

from mmmedmask.engine.hooks.load_check import LoadCheckHook
from mmmedmask.engine.hooks.nan_guard import NaNGuardHook
from mmmedmask.engine.hooks.precise_bn import PreciseBNHook

__all__ = ['LoadCheckHook', 'NaNGuardHook', 'PreciseBNHook']
