"""Let ``mmpretrain.models`` be imported without all of mmdet.

``mmpretrain.models.utils.res_layer_extra_norm`` imports ``mmdet.models``,
with scikit-learn, SciPy's optimizers and pyplot behind it, where it is
installed: half of the time that ``import mmpretrain.models`` takes, for one
layer that mmpretrain registers in mmdet's registry (no upstream issue). The
layer is of no use before ``mmdet.models`` is imported, so it waits for that;
until then its name in mmpretrain is ``None``, as if mmdet were missing.

Delete when mmpretrain leaves the layer to mmdet.
"""

import importlib
import sys

from mmmedmask.compat.import_hooks import after_import
from mmmedmask.compat.stand_in import StandIn

MODULE = 'mmpretrain.models.utils.res_layer_extra_norm'
LAYER = 'ResLayerExtraNorm'
HOST = 'mmdet.models'


# The module as it is without mmdet.
_STAND_IN = StandIn(MODULE, lambda module: setattr(module, LAYER, None),
                    lambda: HOST not in sys.modules)


def _load_layer() -> None:
    """Replace the stand-in by mmpretrain's own module."""
    module = sys.modules.get(MODULE)
    if getattr(module, '__loader__', None) is not _STAND_IN:
        return
    del sys.modules[MODULE]
    layer = getattr(importlib.import_module(MODULE), LAYER)
    for name in ('mmpretrain.models.utils', 'mmpretrain.models'):
        setattr(sys.modules[name], LAYER, layer)


def defer_mmdet() -> None:
    """Import mmdet's models when they are asked for, not with mmpretrain's."""
    if _STAND_IN not in sys.meta_path:
        sys.meta_path.insert(0, _STAND_IN)
    after_import(HOST, _load_layer)
