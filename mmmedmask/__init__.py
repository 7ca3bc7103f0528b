"""Masked pre-training for medical images inside OpenMMLab.

Importing the package registers nothing but its scope: the registries load
their modules on first use (see :mod:`mmmedmask.registry`).
"""

from mmmedmask.compat import apply_patches
from mmmedmask.version import __version__

apply_patches()

__all__ = ['__version__']
