"""Models: one folder per method, shared bricks in ``layers``."""

from mmmedmask.models import cmim, gimp, msmae

__all__ = ['cmim', 'gimp', 'msmae']
