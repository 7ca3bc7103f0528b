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
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from mmmedmask.compat.import_hooks import after_import

MODULE = 'mmpretrain.models.utils.res_layer_extra_norm'
LAYER = 'ResLayerExtraNorm'
HOST = 'mmdet.models'


class _StandInLoader(Loader):
    """Fills the module as it is without mmdet."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python to make an empty module."""

    def exec_module(self, module: ModuleType) -> None:
        """See :meth:`importlib.abc.Loader.exec_module`."""
        setattr(module, LAYER, None)


class _StandInFinder(MetaPathFinder):
    """Finds the stand-in until somebody imports mmdet's models."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        """See :meth:`importlib.abc.MetaPathFinder.find_spec`."""
        if fullname != MODULE or HOST in sys.modules:
            return None
        return ModuleSpec(MODULE, _StandInLoader(), origin=__name__)


def _load_layer() -> None:
    """Put mmpretrain's own module in the place of the stand-in."""
    module = sys.modules.get(MODULE)
    if not isinstance(getattr(module, '__loader__', None), _StandInLoader):
        return
    del sys.modules[MODULE]
    layer = getattr(importlib.import_module(MODULE), LAYER)
    for name in ('mmpretrain.models.utils', 'mmpretrain.models'):
        setattr(sys.modules[name], LAYER, layer)


def defer_mmdet() -> None:
    """Import mmdet's models when they are asked for, not with mmpretrain's.

    Calling it again changes nothing.
    """
    if not any(isinstance(finder, _StandInFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _StandInFinder())
    after_import(HOST, _load_layer)
