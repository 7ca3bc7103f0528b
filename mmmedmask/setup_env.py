"""Register all parts of mmmedmask at once, as in mmdet and mmyolo."""

import importlib

from mmengine.registry import init_default_scope as set_default_scope

# Everything whose import registers something.
PACKAGES = ('datasets', 'engine', 'evaluation', 'models', 'visualization')


def register_all_modules(init_default_scope: bool = False) -> None:
    """Import everything in mmmedmask that registers a type.

    Training from a config does not need it: registries load their packages
    on first use. It is for scripts that look at the registries themselves.

    Args:
        init_default_scope: Whether ``mmmedmask`` becomes the default scope,
            so that its types can be written without prefix. Unlike in other
            OpenMMLab packages it does not by default: configs keep the scope
            of their host library (mmpretrain, mmdet, mmseg), whose own code
            builds its types without prefix.
    """
    for package in PACKAGES:
        importlib.import_module(f'mmmedmask.{package}')
    if init_default_scope:
        set_default_scope('mmmedmask')
