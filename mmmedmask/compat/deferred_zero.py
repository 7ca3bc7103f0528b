"""Let MMEngine be imported without ``torch.distributed.optim``.

MMEngine derives its ``ZeroRedundancyOptimizer`` from PyTorch's, whose package
compiles eight optimizers as it is imported: a fifteenth of the time to a
run's first iteration, for a class that few runs ask for (no upstream issue).
Until one is built a stand-in has its name.

Delete when MMEngine imports PyTorch's where one is built.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MODULE = 'mmengine.optim.optimizer.zero_optimizer'
NAME = 'ZeroRedundancyOptimizer'
HOST = 'torch.distributed.optim'


class _StandIn:
    """Builds MMEngine's own."""

    def __new__(cls, *args: object, **options: object) -> object:
        return _load_optimizer()(*args, **options)


class _StandInLoader(Loader):
    """Fills the module with the stand-in."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python to make an empty module."""

    def exec_module(self, module: ModuleType) -> None:
        """See :meth:`importlib.abc.Loader.exec_module`."""
        from mmengine.registry import OPTIMIZERS
        setattr(module, NAME, _StandIn)
        OPTIMIZERS.register_module(name=NAME, module=_StandIn)


class _StandInFinder(MetaPathFinder):
    """Finds the stand-in, unless what it spares is imported already."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        """See :meth:`importlib.abc.MetaPathFinder.find_spec`."""
        if fullname != MODULE or HOST in sys.modules:
            return None
        return ModuleSpec(MODULE, _StandInLoader(), origin=__name__)


def _load_optimizer() -> type:
    """Put MMEngine's own class in the place of the stand-in."""
    from mmengine.registry import OPTIMIZERS
    if OPTIMIZERS.module_dict[NAME] is _StandIn:
        importlib.import_module(HOST)
        del sys.modules[MODULE], OPTIMIZERS.module_dict[NAME]
        optimizer = getattr(importlib.import_module(MODULE), NAME)
        for name in ('mmengine.optim.optimizer', 'mmengine.optim'):
            setattr(sys.modules[name], NAME, optimizer)
    return OPTIMIZERS.module_dict[NAME]


def defer_zero_optimizer() -> None:
    """Import PyTorch's when one is built; calling it again changes nothing."""
    if not any(isinstance(finder, _StandInFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _StandInFinder())
