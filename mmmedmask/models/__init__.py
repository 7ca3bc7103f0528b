"""Models: one folder per method, shared bricks in ``layers``."""

from mmmedmask.models import cmim, gimp, mil, msmae, slide_omic

__all__ = ['cmim', 'gimp', 'mil', 'msmae', 'slide_omic']
