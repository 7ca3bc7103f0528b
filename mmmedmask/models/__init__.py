"""Models: one folder per method, shared bricks in ``layers``."""

from mmmedmask.models import cmim, detection, gimp, mil, msmae, slide_omic

__all__ = ['cmim', 'detection', 'gimp', 'mil', 'msmae', 'slide_omic']
