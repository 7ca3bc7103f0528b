"""Models: one folder per method, shared bricks in ``layers``."""

from mmmedmask.models import cmim, msmae

__all__ = ['cmim', 'msmae']
