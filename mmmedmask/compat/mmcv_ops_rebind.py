"""Give mmcv's ops to mmdet and mmseg modules that were imported before us.

The forks of mmdet and mmseg import mmcv's ops inside ``try`` and put a
placeholder (``None``, or a function or class that raises) in their place
when mmcv has none. If such a module is imported before mmmedmask, say by
mmdet's own ``tools/train.py`` or by a script with sorted imports, the
placeholder is what it keeps. mmcv itself keeps an alias of
``MultiScaleDeformableAttention`` in the same way. All that is a part of
mmcv#3325 (mmcv without compiled ops).

Delete together with :mod:`mmmedmask.compat.mmcv_ops`.
"""

import importlib
import sys
from types import FunctionType

from mmmedmask.compat.mmcv_ops import has_compiled_ops

HOSTS = ('mmdet.', 'mmseg.')
# What all placeholders of mmdet say when they are called.
PLACEHOLDER_TEXT = 'requires mmcv to be compiled with ops'
TRANSFORMER = 'mmcv.cnn.bricks.transformer'


def _is_placeholder(value: object) -> bool:
    """Whether it is None, or a function or class that raises when called."""
    if isinstance(value, type):
        value = vars(value).get('__init__')
        if value is None:
            return False
    return value is None or isinstance(value, FunctionType) and any(
        isinstance(constant, str) and PLACEHOLDER_TEXT in constant
        for constant in value.__code__.co_consts)


def rebind_mmcv_ops() -> list[str]:
    """Replace placeholders in loaded host modules, and say ``module.name``.

    Does nothing, and imports nothing, if no host is loaded.
    """
    loaded = {name: module for name, module in list(sys.modules.items())
              if module is not None
              and (name.startswith(HOSTS) or name == TRANSFORMER)}
    if not loaded or has_compiled_ops():
        return []
    ops = importlib.import_module('mmcv.ops')
    merge_cells = importlib.import_module('mmcv.ops.merge_cells')
    available = {name: getattr(ops, name) for name in ops.__all__}
    available |= {name: getattr(merge_cells, name)
                  for name in ('ConcatCell', 'GlobalPoolingCell', 'SumCell')}

    replaced = []
    for module_name, module in loaded.items():
        for name, value in list(vars(module).items()):
            # mmdet and mmseg import some ops under a private name.
            op = available.get(name.lstrip('_'))
            if op is not None and _is_placeholder(value):
                setattr(module, name, op)
                replaced.append(f'{module_name}.{name}')
    if TRANSFORMER in loaded:
        name = 'MultiScaleDeformableAttention'
        if not hasattr(loaded[TRANSFORMER], name):
            setattr(loaded[TRANSFORMER], name, available[name])
            replaced.append(f'{TRANSFORMER}.{name}')
    return replaced
