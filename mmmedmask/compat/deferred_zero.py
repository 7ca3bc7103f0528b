"""Let MMEngine be imported without ``torch.distributed.optim``.

MMEngine derives its ``ZeroRedundancyOptimizer`` from PyTorch's, whose package
compiles eight optimizers as it is imported: a fifteenth of the time to a
run's first iteration, for a class that few runs ask for (no upstream issue).
Until one is built a stand-in has its name.

Delete when MMEngine imports PyTorch's where one is built.
"""

import importlib
import sys
from types import ModuleType

from mmmedmask.compat.stand_in import StandIn

MODULE = 'mmengine.optim.optimizer.zero_optimizer'
NAME = 'ZeroRedundancyOptimizer'
HOST = 'torch.distributed.optim'


class _OptimizerMaker:
    """Builds MMEngine's own."""

    def __new__(cls, *args: object, **options: object) -> object:
        return _load_optimizer()(*args, **options)


def _fill(module: ModuleType) -> None:
    from mmengine.registry import OPTIMIZERS
    setattr(module, NAME, _OptimizerMaker)
    OPTIMIZERS.register_module(name=NAME, module=_OptimizerMaker)


_STAND_IN = StandIn(MODULE, _fill, lambda: HOST not in sys.modules)


def _load_optimizer() -> type:
    """Replace the stand-in by MMEngine's own class."""
    from mmengine.registry import OPTIMIZERS
    if OPTIMIZERS.module_dict[NAME] is _OptimizerMaker:
        importlib.import_module(HOST)
        del sys.modules[MODULE], OPTIMIZERS.module_dict[NAME]
        optimizer = getattr(importlib.import_module(MODULE), NAME)
        for name in ('mmengine.optim.optimizer', 'mmengine.optim'):
            setattr(sys.modules[name], NAME, optimizer)
    return OPTIMIZERS.module_dict[NAME]


def defer_zero_optimizer() -> None:
    """Import PyTorch's when one is built."""
    if _STAND_IN not in sys.meta_path:
        sys.meta_path.insert(0, _STAND_IN)
