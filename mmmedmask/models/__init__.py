"""Models: one folder per method, shared bricks in ``layers``."""

from mmmedmask.models import (
    cmim,
    concl,
    detection,
    gimp,
    mil,
    msmae,
    slide_omic,
)

__all__ = ['cmim', 'concl', 'detection', 'gimp', 'mil', 'msmae', 'slide_omic']
