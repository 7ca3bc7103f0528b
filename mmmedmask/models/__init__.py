"""Models: one folder per method, shared bricks in ``layers``."""

from mmmedmask.models import cmim

__all__ = ['cmim']
